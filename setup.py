"""Install the rooms as packages: `pip install -e .`, or `pip install -e ".[dev]"` to test too."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent

setup(
    name="video-action-recognition",
    version="1.0.0",
    description="Train 3D CNNs to recognise human actions: SRTG and MTConv networks in PyTorch",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=["data", "network", "train", "run", "run.benchmarks", "labels"],
    package_data={"labels": ["*.csv", "*.csv.gz", "*.txt", "*.json", "*.md"]},
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
        ]
    },
)
