"""Checks the URL of a database before anything connects to it, so that no driver repeats its password in an error."""

import re
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

SQLITE: Final = "sqlite:///"
POSTGRES: Final = ("postgresql://", "postgres://")
_HOST: Final = r"(?:[\w.-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+(?:%25\w+)?\]"
_POSTGRES: Final = re.compile(
    r"postgres(?:ql)?://"
    r"(?:(?:[^@/%]|%[0-9A-Fa-f]{2})*@)?"  # the user and the password
    rf"(?:{_HOST})(?::\d{{0,5}})?(?:,(?:{_HOST})(?::\d{{0,5}})?)*"
    r"(?:/(?:[^@/?%]|%[0-9A-Fa-f]{2})*)?"  # the name of the database
    r"(?:\?(?:[^@%]|%[0-9A-Fa-f]{2})*)?"
)


def require_database_url(url: str) -> None:
    """`ValueError`, without any part of the URL, when it is not one of SQLite or PostgreSQL."""
    if url.startswith(SQLITE):
        _require_file(url.removeprefix(SQLITE))
    elif url.startswith(POSTGRES):
        _require_postgres(url)
    else:
        raise ValueError("takes sqlite:///path or postgresql://user:password@host/name")


def _require_file(path: str) -> None:
    if not path or path.endswith("/") or path == ":memory:" or "?" in path:
        raise ValueError(
            "takes the path of a file after sqlite:///, and no options; a database in memory is not supported"
        )
    if path.startswith("~"):
        raise ValueError("takes a path that is written out, without ~")


def _require_postgres(url: str) -> None:
    if not _POSTGRES.fullmatch(url):
        raise ValueError(
            "is not a valid URL of PostgreSQL. In the user name and the password, write special characters as percent "
            "codes: %40 for @, %3A for :, %2F for /, %25 for %"
        )
    try:
        conninfo_to_dict(url)
    except (psycopg.Error, UnicodeError):  # its text repeats a part of the URL
        raise ValueError(
            "has a parameter after ? that PostgreSQL does not know, or a percent code that is not text"
        ) from None
