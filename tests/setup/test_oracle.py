"""`scripts/oracle.py`, which installs what the churn models are checked with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed yet."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.oracle"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def test_without_a_package_index_it_says_what_is_missing_and_what_to_set(copy: Path) -> None:
    done = run(copy, UV_OFFLINE="1", UV_NO_CACHE="1", PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "lifetimes, which the tests of churn need, could not be installed." in done.stderr
    assert "export PIP_INDEX_URL=" in done.stderr


def test_an_installation_that_was_cut_off_is_made_anew(copy: Path) -> None:
    run(copy, UV_OFFLINE="1", UV_NO_CACHE="1", PIP_FIND_LINKS="")
    assert list((copy / "build").glob("oracle-*/pyvenv.cfg"))
    done = run(copy)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip(), "bin", "python").exists()
    assert Path(done.stdout.strip(), "complete").exists()
