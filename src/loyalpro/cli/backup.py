"""`loyalpro backup`: a copy of the SQLite database, with a progress bar."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from loyalpro.cli.remote import warn
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import load, unknown_settings
from loyalpro.storage.sqlite.backup import back_up


def back_up_database(target: Path, *, overwrite: bool) -> str:
    """Copy the database of the settings; return what to tell the operator."""
    settings = load()
    warn(unknown_settings())
    if settings.is_postgres:
        raise ConfigurationError(
            "`loyalpro backup` copies SQLite databases. PostgreSQL has tools of its own: pg_dump -Fc -f FILE, or a base backup."
        )
    columns = [TextColumn("copying"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        size_bytes = back_up(
            settings.sqlite_path,
            target,
            lambda copied, total: progress.update(task, completed=copied, total=total),
            overwrite=overwrite,
        )
    key = settings.sqlite_path.with_name("secret.key")
    needed = f"the key in {key}" if key.exists() else "LOYALPRO_SECRET_KEY"
    return f"{target}: {size_bytes / 1e6:,.1f} MB, checked. A restore also needs {needed}; keep a copy of it in another place."
