"""What `make setup` installs: the dependencies, and a link to this folder (`pip install -e`).

A plain `pip install .` is refused. The packages' names are `data`, `network`, `train`, `run` and
`labels`; copied among everybody's packages they would hide, or be hidden by, others of these names.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.install import install

HERE = Path(__file__).parent
REFUSAL = (
    "error: this project is used from its own folder, not installed: run `make setup` here, or "
    "`pip install -e .` in a virtual environment of its own (its packages have names as common as "
    "`data` and `train`)"
)


class RefusedWheel(bdist_wheel):
    """The step of `pip install .` that would pack the files."""

    def run(self) -> None:
        """Refuse, and say how to use the project. `pip install -e` does not call this."""
        raise SystemExit(REFUSAL)


class RefusedInstall(install):
    """`python setup.py install`."""

    def run(self) -> None:
        """Refuse, and say how to use the project."""
        raise SystemExit(REFUSAL)


#: What `run.export` needs; the versions are the oldest that were tried.
EXPORT = ["onnx>=1.23", "onnxruntime>=1.23", "onnxscript>=0.7", "safetensors>=0.8"]

setup(
    name="video-action-recognition",
    version="1.0.0",
    description="Train 3D CNNs to recognise human actions: SRTG and MTConv networks in PyTorch",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["data", "network", "train", "run", "labels"],
    cmdclass={"bdist_wheel": RefusedWheel, "install": RefusedInstall},
    install_requires=[
        line.partition("#")[0].strip()
        for line in (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line.partition("#")[0].strip()
    ],
    extras_require={
        "dev": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "ruff>=0.9",
            *EXPORT,
        ],
        "export": EXPORT,
        "reference": ["torchcam>=0.4"],  # a test compares heat maps with it
    },
)
