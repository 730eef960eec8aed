"""`loyalpro doctor`: checks a database without changing it, also while servers use it."""

import os

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loyalpro.cli.administration import require_own_file
from loyalpro.cli.remote import warn
from loyalpro.kernel.clock import SystemClock
from loyalpro.loyalty.ledger_check import faults, is_tier_known
from loyalpro.settings import load, unknown_settings
from loyalpro.storage.open import open_reader
from loyalpro.storage.tables.ledger_check import LedgerReader


def examine(*, ledger: bool) -> int:
    """Print what is wrong, a line for each fault; how many there are. `ledger`: check the points of every customer."""
    settings = load()
    warn(unknown_settings())
    if not settings.is_postgres:
        require_own_file(settings.sqlite_path, os.geteuid())
    connection = open_reader(settings.url)
    try:
        if not ledger:
            print("The schema fits this program. To check the points of every customer: loyalpro doctor --ledger")
            return 0
        return _check_ledger(LedgerReader(connection))
    finally:
        connection.close()


def _check_ledger(reader: LedgerReader) -> int:
    now, found, customers, unknown_tiers = SystemClock().now_ms(), 0, 0, 0
    columns = [TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=reader.count())
        for text in reader.double_cases():
            print(text)
            found += 1
        for page in reader.pages():
            for log in page:
                for text in faults(log, now):
                    print(f"{log.customer.id}: {text}", flush=True)
                    found += 1
                unknown_tiers += log.customer.status == "active" and not is_tier_known(log)
            customers += len(page)
            progress.update(bar, completed=customers)
    print(f"{customers:,} customers checked: {_summary(found)}")
    if unknown_tiers:
        print(f"The tiers of {unknown_tiers:,} were not checked: the events that tell them are no longer kept.")
    return found


def _summary(found: int) -> str:
    if not found:
        return "every balance, lot, day, sequence, event and tier follows from the log."
    return f"{found:,} {'thing does' if found == 1 else 'things do'} not add up. Nothing was changed."
