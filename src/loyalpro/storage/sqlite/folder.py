"""The folder of a SQLite database: makes it, and says what is wrong when LoyalPro cannot use it."""

import errno
from pathlib import Path
from typing import Final

from loyalpro.kernel.errors import ConfigurationError, DiskFull, StoreUnavailable

_CHOOSE: Final = "choose another place with LOYALPRO_DATA_DIR or LOYALPRO_DATABASE_URL"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_REFUSED: Final = (errno.EACCES, errno.EPERM)


def make_folder(folder: Path) -> None:
    """Create the folder, for its owner only, if it is missing. Its parent has to exist.

    Folders at the root of the file system, and several at once, are not made: they are more often the result of a wrong
    path, or of a disk that is not mounted, than of an intention.
    """
    folder = folder.absolute()
    try:
        if folder.is_dir():
            return
        if folder.exists():
            raise ConfigurationError(f"{folder} is a file, and LoyalPro needs a folder there: {_CHOOSE}.")
        if not folder.parent.is_dir() or folder.parent == Path(folder.anchor):
            raise ConfigurationError(f"The folder {folder} does not exist. Create it, or {_CHOOSE}.")
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unusable(folder, error) from None


def unusable(path: Path, error: OSError) -> StoreUnavailable:
    """The error of LoyalPro for one of the operating system about a file or folder of the data."""
    path = path.absolute()
    if error.errno in _FULL:
        return DiskFull(f"The disk of {path} is full. Free some space; then repeat it.")
    if error.errno in _REFUSED:
        return StoreUnavailable(
            f"Permission denied: {path}. Run LoyalPro as the user who owns its folder, give this user the right to read and "
            f"write there, or {_CHOOSE}."
        )
    if error.errno == errno.EROFS:
        return StoreUnavailable(f"{path} is on a read-only file system. Mount it for writing, or {_CHOOSE}.")
    return StoreUnavailable(f"{path} cannot be used ({error.strerror}): {_CHOOSE}.")
