"""The command `loyalpro` with its subcommands. Heavy imports happen inside the commands, so that `--help` is fast."""

import io
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from loyalpro import __version__
from loyalpro.cli import accounts, deliveries, endpoints, events, keys, people
from loyalpro.cli.api_client import ApiProblem
from loyalpro.cli.remote import DEFAULT_SERVER, ApiKey, Server, connected, fail
from loyalpro.kernel.errors import LoyalProError


class _Commands(TyperGroup):
    """Ends every command in the same way when it fails: one line on stderr that says what to do, and status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that is not UTF-8
        try:
            return super().invoke(ctx)
        except LoyalProError as error:
            fail(error.detail)
        except OSError as error:
            if isinstance(error, ConnectionError) or error.filename is None:
                raise
            fail(f"{os.fsdecode(error.filename)}: {error.strerror}")


app = typer.Typer(
    name="loyalpro",
    cls=_Commands,
    help="A loyalty platform with real-time webhooks.\n\n"
    "`serve`, `worker`, `migrate`, `doctor`, `accounts`, `keys` and `reset-password` read their settings from environment "
    "variables: docs/reference/environment.md.\n\n"
    "`events`, `deliveries`, `endpoints` and `import` talk to a running server: set LOYALPRO_API_KEY to an API key of your "
    "account, and LOYALPRO_SERVER to the address of the server if it does not run on this machine.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(events.app, name="events")
app.add_typer(deliveries.app, name="deliveries")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(accounts.app, name="accounts")
app.add_typer(keys.app, name="keys")
app.command(
    "reset-password",
    epilog="Examples: `loyalpro reset-password ada@example.com` · "
    "`loyalpro reset-password ada@example.com --remove-second-factor`",
)(people.reset_password)


class ImportKind(Enum):
    """What the rows of a file are."""

    CUSTOMERS = "customers"
    TRANSACTIONS = "transactions"
    BALANCES = "balances"


class Amounts(Enum):
    """How amounts are written."""

    MINOR = "minor"
    MAJOR = "major"


class Earn(Enum):
    """What purchases earn."""

    RULES = "rules"
    NONE = "none"
    GIVEN = "given"


Port = Annotated[int | None, typer.Option(min=0, max=65535, help="The port to listen on, instead of LOYALPRO_PORT.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - the framework's signature for a flag
    if wanted:
        print(f"loyalpro {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run and operate a LoyalPro server."""


@app.command(epilog="Examples: `loyalpro serve` · `LOYALPRO_DATABASE_URL=postgresql://... loyalpro serve --port 9000`")
def serve(port: Port = None) -> None:
    """Serve the API and deliver webhooks. On SQLite, no other process is needed.

    The first start creates the schema of the database. For a database of an older version, run `loyalpro migrate` first.
    """
    from loyalpro.cli import server

    server.serve(port)


@app.command(epilog="Example: `LOYALPRO_DATABASE_URL=postgresql://... LOYALPRO_SECRET_KEY=... loyalpro worker`")
def worker() -> None:
    """Deliver webhooks, on any host and in any number of processes. Needs PostgreSQL.

    After SIGTERM or Ctrl-C the worker finishes the deliveries that it is sending, for up to 10 seconds. If it dies, other
    processes take over its deliveries within 15 seconds.
    """
    from loyalpro.cli import server

    server.work()


@app.command(epilog="Example: `loyalpro migrate`")
def migrate() -> None:
    """Update the schema of the database to this version. It is safe to repeat, also on several hosts at once."""
    from loyalpro.cli import server

    applied = server.migrate()
    print("\n".join(f"applied {name}" for name in applied) or "nothing to do: the database is up to date")


@app.command(
    epilog="Examples: `loyalpro backup /backups/loyalpro-$(date +%F).db` · `loyalpro backup --force /backups/newest.db`"
)
def backup(
    file: Annotated[
        Path, typer.Argument(help="The file to write. It appears when it is complete.", show_default=False)
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,  # noqa: FBT002
) -> None:
    """Copy the SQLite database to a file, also while a server runs, which goes on undisturbed.

    The copy has every change that was acknowledged before it began. It does not have the file `secret.key`.
    """
    from loyalpro.cli.backup import back_up_database

    print(back_up_database(file, overwrite=force))


@app.command(
    "import",
    epilog="Examples: `loyalpro import customers people.csv` · `loyalpro import transactions sales.csv --amounts major "
    "--map customer_external_id=Member --map amount=Total --map external_id=Receipt` · "
    "`loyalpro import balances points.csv --dry-run --errors refused.csv`",
)
def import_file(
    kind: Annotated[ImportKind, typer.Argument(help="What the rows are.", show_default=False)],
    file: Annotated[
        Path,
        typer.Argument(
            help="A CSV file in UTF-8 with a header, and `,`, `;` or tab between the cells.",
            exists=True,
            dir_okay=False,
        ),
    ],
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="FIELD=COLUMN, for each field. Other columns are left out. Default: the header has fields."
        ),
    ] = None,
    amounts: Annotated[
        Amounts, typer.Option(help="Whether amounts are such as 5600 (minor) or such as 56.00 (major).")
    ] = Amounts.MINOR,
    earn: Annotated[
        Earn,
        typer.Option(help="Whether purchases earn by the rules, nothing, or what the column `points` says (given)."),
    ] = Earn.RULES,
    counts_toward_tier: Annotated[  # noqa: FBT002
        bool, typer.Option("--counts-toward-tier", help="Opening balances count toward tiers.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only find out which rows would be refused.")] = False,  # noqa: FBT002
    errors: Annotated[
        Path | None, typer.Option(help="Write the rows that are refused to this CSV file.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an import of this file that was cut off.")] = False,  # noqa: FBT002
    server: Server = DEFAULT_SERVER,
    api_key: ApiKey = "",
) -> None:
    """Import customers, purchases or opening balances from a CSV file of any size. The status is 1 when a row is refused.

    A row whose `external_id` was imported before is left unchanged, so a file can be imported again after it was corrected.
    """
    from loyalpro.cli.import_file import FileImport

    body = {
        "kind": kind.value,
        "amounts": amounts.value,
        "earn": earn.value,
        "counts_toward_tier": counts_toward_tier,
        "dry_run": dry_run,
        "mapping": _mapping(mapping or []),
    }
    with connected(server, api_key) as client:
        try:
            ended = FileImport(file, {k: v for k, v in body.items() if v}, errors, resume).run(client)
        except ApiProblem as problem:
            fail(f"{problem.detail} When that is solved, the same command with --resume continues.")
    for line in ended.shown:
        print(line, file=sys.stderr)
    tried = "would be imported" if dry_run else "imported"
    print(f"{ended.imported:,} rows {tried}, {ended.unchanged:,} were there already, {ended.refused:,} are refused")
    if ended.refused:
        raise typer.Exit(1)


def _mapping(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for field, equals, _ in pairs:
        if not equals:
            fail(f"--map takes FIELD=COLUMN, and {field!r} has no =.")
    return {field.strip(): column for field, _, column in pairs}


@app.command(
    epilog="Examples: `loyalpro doctor` · `loyalpro doctor --ledger` (from a night's backup, or beside the server)"
)
def doctor(
    ledger: Annotated[  # noqa: FBT002
        bool,
        typer.Option("--ledger", help="Derive the points of every customer from the log, and say what differs."),
    ] = False,
) -> None:
    """Check the database without changing it, also while servers use it. The status is 1 when something is wrong.

    With `--ledger`, every balance, lot, day, sequence, event and tier is derived again, customer by customer.
    """
    from loyalpro.cli.doctor import examine

    if examine(ledger=ledger):
        raise typer.Exit(1)


@app.command(
    "alerts", epilog="Example: `loyalpro alerts > /etc/prometheus/loyalpro.yml`, and name the file in `rule_files`"
)
def print_alerts() -> None:
    """Print alert rules for Prometheus: database down, late deliveries, failing endpoints, a full disk, and others."""
    from loyalpro.cli import alerts

    print(alerts.rules(), end="")


@app.command(epilog="Example: `loyalpro demo` (what `make run` does)")
def demo(port: Port = None) -> None:
    """Run a demo: a server on SQLite, a shop with purchases, and an HTTPS receiver that verifies each delivery."""
    from loyalpro.cli.demo import show

    show.run(port)
