"""Make a virtual environment with pip: `python3 .ci/make_venv.py FOLDER`.

`python3 -m venv` alone fails on Debian and Ubuntu where python3-venv is not installed: ensurepip is
missing there. Then pip's own wheel, fetched from PyPI and checked, installs pip.
"""

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

INDEX = "https://pypi.org/pypi/pip/json"


def fetch_pip_wheel(folder: Path) -> Path:
    """Download the newest pip wheel into `folder`. Raises OSError when it cannot be had."""
    with urllib.request.urlopen(INDEX) as answer:
        files = json.load(answer)["urls"]
    wheel = next(file for file in files if file["packagetype"] == "bdist_wheel")
    # a mirror may answer with addresses relative to its own
    with urllib.request.urlopen(urllib.parse.urljoin(INDEX, wheel["url"])) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != wheel["digests"]["sha256"]:
        raise OSError(f"{wheel['url']}: the checksum differs")
    path = folder / wheel["filename"]
    path.write_bytes(content)
    return path


def main() -> None:
    """Make the environment that the first argument names."""
    if sys.version_info < (3, 10):  # noqa: UP036, an older one may well be what `python3` is
        sys.exit("error: Python 3.10 or newer is needed; name one: make PYTHON=python3.12 demo")
    target = Path(sys.argv[1])
    if importlib.util.find_spec("ensurepip"):
        venv.create(target, with_pip=True, clear=True)
        return
    venv.create(target, with_pip=False, clear=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            wheel = fetch_pip_wheel(Path(folder))
        except OSError as error:
            sys.exit(f"error: no pip ({error}); as root: apt install python3-venv, then try again")
        subprocess.run([target / "bin" / "python", wheel / "pip", "install", "pip"], check=True)


if __name__ == "__main__":
    main()
