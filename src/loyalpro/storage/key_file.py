"""The key that LoyalPro generates for a SQLite database, in a file beside it."""

import contextlib
import os
import random
from pathlib import Path

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.sqlite.folder import unusable
from loyalpro.storage.vault import MIN_KEY_CHARACTERS

_NAME = "secret.key"
_KEY_BYTES = 32


class KeyFile:
    """Reads the key. Where there is no file, it generates a key, and `save` stores that once the start is known to succeed."""

    def __init__(self, database: Path, rng: random.Random) -> None:
        self.path = database.absolute().parent / _NAME
        self._rng = rng
        self._unsaved: str | None = None

    def read(self) -> str | None:
        """The key of the file; None when there is no file. `ConfigurationError` when the file has no key."""
        try:
            key = self.path.read_text("utf-8").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unusable(self.path, error) from None
        except UnicodeDecodeError:
            key = ""
        if len(key) < MIN_KEY_CHARACTERS:
            raise ConfigurationError(
                f"{self.path} has no key: LoyalPro writes {2 * _KEY_BYTES} characters there. Restore the file from a backup. "
                "If the database has no secrets yet, delete it."
            )
        return key

    def generate(self) -> str:
        """A new key, which `save` stores."""
        self._unsaved = self._rng.randbytes(_KEY_BYTES).hex()
        return self._unsaved

    def save(self, *, secrets_exist: bool) -> None:
        """Store the generated key, if there is one. `ConfigurationError` when it cannot be the key of the secrets that exist.

        Call it while the database is locked. The file is created complete or not at all, and never replaced.
        """
        if self._unsaved is None:
            return
        if secrets_exist:
            raise ConfigurationError(
                f"The database has secrets, and the file with their key is missing: {self.path}. Put the file back, or set "
                "LOYALPRO_SECRET_KEY to its content."
            )
        fresh = self.path.with_suffix(f".{os.getpid()}")
        try:
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            fresh.touch(mode=0o600)
            fresh.write_text(self._unsaved, "utf-8")
            os.link(fresh, self.path)
        except FileExistsError:
            raise ConfigurationError(f"Another process has created {self.path}. Start again.") from None
        except OSError as error:
            raise unusable(self.path, error) from None
        finally:
            with contextlib.suppress(OSError):
                fresh.unlink()
        self._unsaved = None
