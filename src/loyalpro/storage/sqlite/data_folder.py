"""Keeps the files of a SQLite database to the user of the server: they have all data of customers, and the key of secrets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from loyalpro.kernel.errors import ConfigurationError

_OF_OTHERS: Final = 0o077
_WRITABLE_BY_OTHERS: Final = 0o022
_KEY_FILE: Final = "secret.key"


def keep_to_user(database: Path) -> None:
    """Take the rights of other users on the files of a database, and on its folder when it holds nothing else.

    Raises `ConfigurationError` when a file belongs to another user, or when others can replace the files.
    """
    folder = database.parent
    for path in _files(database):
        _require_own(path)
        _tighten(path, 0o600)
    if not _is_shared(folder) and all(_belongs(each, database) for each in folder.iterdir()):
        _require_own(folder)
        _tighten(folder, 0o700)
    elif _is_replaceable(folder):
        raise ConfigurationError(
            f"Other users can replace files in {folder}. Give the database a folder of its own, or: chmod go-w {folder}"
        )


def _files(database: Path) -> Iterator[Path]:
    """The files of the database that exist. A link is not followed: its target may belong to anything."""
    return (each for each in database.parent.iterdir() if _belongs(each, database) and not each.is_symlink())


def _belongs(path: Path, database: Path) -> bool:
    return path.name.startswith(database.name) or path.name.startswith(_KEY_FILE) or path.name.endswith(".sock")


def _require_own(path: Path) -> None:
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to another user (uid {owner}). Start LoyalPro as that user, or change the owner of the folder "
            f"and its files: chown -R {os.geteuid()} {path if path.is_dir() else path.parent}"
        )


def _tighten(path: Path, mode: int) -> None:
    before = stat.S_IMODE(path.stat().st_mode)
    if before & _OF_OTHERS:
        path.chmod(mode)
        structlog.get_logger("storage").warning(
            "rights_tightened", path=str(path), before=f"{before:04o}", now=f"{mode:04o}"
        )


def _is_replaceable(folder: Path) -> bool:
    """Whether other users can replace the files of the folder."""
    return bool(folder.stat().st_mode & _WRITABLE_BY_OTHERS) and not _is_shared(folder)


def _is_shared(folder: Path) -> bool:
    """Whether the folder has the sticky bit, as /tmp: every user can add files, and only the owner of a file can replace it."""
    return bool(folder.stat().st_mode & stat.S_ISVTX)
