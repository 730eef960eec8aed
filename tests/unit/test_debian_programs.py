"""A program that tests need and the machine lacks is an error that says what to install."""

from pathlib import Path

import pytest

from support.debian import program


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without apt-get
    with pytest.raises(AssertionError, match="sudo apt-get install a-package"):
        program("a-program-that-does-not-exist", "a-package")
