"""The project is used from its folder: a plain installation is refused with one sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", ["bdist_wheel", "install"])
def test_a_plain_installation_is_refused(command):
    answer = subprocess.run(
        [sys.executable, "setup.py", command], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode != 0
    assert "Traceback" not in answer.stderr
    assert "make setup" in answer.stderr.splitlines()[-1]
    assert not (ROOT / "build").exists()
