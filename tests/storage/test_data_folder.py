"""The rights of the files of a SQLite database: other users can neither read nor replace them."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.sqlite.data_folder import keep_to_user


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with loose rights in a folder with loose rights."""
    path = tmp_path / "data" / "loyalpro.db"
    migrate_database(f"sqlite:///{path}", SystemClock())
    (path.parent / "secret.key").write_text("key")
    for each in path.parent.iterdir():
        each.chmod(0o644)
    path.parent.chmod(0o755)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_and_close(path: Path) -> None:
    async def main() -> None:
        opened = open_database(f"sqlite:///{path}", SystemClock())
        await opened.start()
        await opened.stop()

    asyncio.run(main())


def test_opening_takes_the_rights_of_others(database: Path) -> None:
    open_and_close(database)
    assert mode(database.parent) == 0o700
    assert {mode(each) for each in database.parent.iterdir()} == {0o600}


def test_a_folder_with_other_files_keeps_its_rights(database: Path) -> None:
    other = database.with_name("shop.txt")
    other.touch(0o644)
    open_and_close(database)
    assert (mode(database.parent), mode(other)) == (0o755, 0o644)
    assert mode(database) == mode(database.with_name("secret.key")) == 0o600


def test_a_folder_in_which_others_can_replace_the_files_is_refused(database: Path) -> None:
    database.with_name("shop.txt").touch()
    database.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        open_and_close(database)
    database.parent.chmod(0o1777)  # as /tmp: only the owner of a file can replace it
    open_and_close(database)
    assert mode(database.parent) == 0o1777


def test_the_target_of_a_link_is_left_alone(database: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.touch(0o644)
    database.with_name("loyalpro.db-link").symlink_to(target)
    open_and_close(database)
    assert mode(target) == 0o644


def test_files_of_another_user_are_refused_and_stay_as_they_are(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ConfigurationError, match=rf"belongs to another user \(uid {me}\).*chown -R {me + 1} "):
        keep_to_user(database)
    assert (mode(database), mode(database.parent)) == (0o644, 0o755)
