"""Options and output that the commands which talk to a server share."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlencode

import typer

from loyalpro.cli.api_client import ApiClient
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.variables import UnknownVariable, misspelled_client_variables

DEFAULT_SERVER = "http://127.0.0.1:8700"
SAYS: Final = "loyalpro: "
"""What the lines of a command on stderr start with."""
_PAGE = 100

Server = Annotated[str, typer.Option("--server", envvar="LOYALPRO_SERVER", help="The address of the server.")]
ApiKey = Annotated[str, typer.Option("--api-key", envvar="LOYALPRO_API_KEY", help="An API key of your account.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="The maximum number to list.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for other programs.")]


def fail(detail: str) -> NoReturn:
    """Print what is wrong, as one line, and exit with status 1."""
    print(f"{SAYS}{' '.join(detail.split())}", file=sys.stderr)
    raise typer.Exit(1) from None


def warn(unknown: list[UnknownVariable]) -> None:
    """Print a line for each variable that nothing reads."""
    for each in unknown:
        print(f"{SAYS}warning: {each}", file=sys.stderr)


@contextmanager
def connected(server: str, api_key: str) -> Iterator[ApiClient]:
    """A client of the server. `LoyalProError` when the server refuses a call."""
    unknown = misspelled_client_variables(os.environ)
    if unknown and os.environ.get("LOYALPRO_STRICT", "").strip() not in ("", "0"):
        raise ConfigurationError(f"{' '.join(map(str, unknown))} LOYALPRO_STRICT=1 refuses such variables.")
    warn(unknown)
    if not api_key.strip():
        raise ConfigurationError(
            "Set LOYALPRO_API_KEY, or give --api-key: the key tells the server which account is meant."
        )
    client = ApiClient(server, api_key)
    try:
        yield client
    finally:
        client.close()


def fetch_first(client: ApiClient, path: str, limit: int, **filters: str | None) -> list[dict[str, Any]]:
    """The first `limit` objects of a list, fetched page by page."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(found) < limit:
        query = {**filters, "limit": str(min(limit - len(found), _PAGE)), "cursor": cursor}
        page = client.call("GET", f"{path}?{urlencode({name: value for name, value in query.items() if value})}")
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def print_json(*rows: object) -> None:
    """Print each row as JSON on a line of its own."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False), flush=True)


def print_table(rows: list[dict[str, Any]], **columns: str) -> None:
    """Print a table with these columns, `HEADING="key"`. Cells are never cut, because ids are copied from them."""
    lines = [list(columns), *([_shown(row[key]) for key in columns.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "-" if value is None else str(value)
