"""`make chaos`: run LoyalPro with real faults, check every webhook, and write bench/CHAOS.md."""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from chaos.faults import SmallDisk
from chaos.merchant import BEHIND_NGINX, FIRST_ENDPOINTS
from chaos.report import RunReport, examples, page, table, with_part
from chaos.run import Plan, run

RESULTS = Path(__file__).parent.parent / "bench" / "CHAOS.md"
QUICK_PAIRS = 5_000
EXAMPLES = """examples:
  python -m chaos                                     both stores, more than 200,000 pairs each (make chaos)
  python -m chaos --quick                             a few minutes: 5,000 pairs, every fault once
  python -m chaos --stores postgres --workers 0       with `loyalpro serve` alone
  python -m chaos --stores sqlite --seed 7 --keep     repeat a seed, keep logs and database
  python -m chaos --nginx                             receivers behind nginx, which is reloaded again and again
"""
_CHANGES = {"join": 1, "leave": 1, "pause": 1, "outage": 1}
_FAULTS = {
    "sqlite": {"kill": 12, "freeze": 2, "sender killed": 4, "sender stopped": 1, "full disk": 2},
    "postgres": {
        "kill": 8,
        "freeze": 2,
        "sender killed": 4,
        "sender stopped": 1,
        "restart": 4,
        "cut after commit": 16,
        "cut in transaction": 8,
        "partition": 2,
    },
}
_OF_THE_NETWORK = frozenset({"outage", "cut after commit", "cut in transaction", "partition"})
"""With nginx in front of the receivers, only nginx ends connections."""
_RELOAD_EVERY_S = 20.0
_RELOAD_QUICKLY_S = 2.0
_DISK_BYTES_FOR_EACH_PAIR = 6_000
_SMALLEST_DISK_MB = 384


def main() -> None:
    """Run, print and write the reports; exit code 1 if a check failed."""
    options = _options()
    console = Console()
    reports = [_report(store, options, console) for store in options.stores.split(",")]
    for report in reports:
        console.print(table(report))
        for line in examples(report.verdict):
            console.print(f"  {line}", style="red", markup=False)
    if not options.no_write:
        command = "make chaos" if len(sys.argv) == 1 else f"python -m chaos {' '.join(sys.argv[1:])}"
        machine = (
            f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        )
        part = page(reports, command, str(datetime.now(UTC).date()), machine)
        RESULTS.write_text(with_part(RESULTS.read_text(), part))
    if not all(report.verdict.passed for report in reports):
        raise SystemExit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stores", default="sqlite,postgres", help="which databases (default: both)")
    parser.add_argument("--pairs", type=int, default=210_000, help="(event, endpoint) pairs for each store, about")
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="repeat a run (default: a new one)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS:,} pairs, every fault once")
    parser.add_argument(
        "--nginx", action="store_true", help="receivers behind nginx, and no other fault of the network"
    )
    parser.add_argument(
        "--serves", type=int, help="`loyalpro serve` processes on PostgreSQL (default: 2, or 1 with --nginx)"
    )
    parser.add_argument("--workers", type=int, default=2, help="`loyalpro worker` processes on PostgreSQL (default: 2)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs and database, and name it")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def _report(store: str, options: argparse.Namespace, console: Console) -> RunReport:
    plan = _plan(store, options, console)
    with _folder(store, console, keep=options.keep) as folder, _progress(console) as progress:
        task = progress.add_task(store, total=1.0, phase="starting")
        began_s = time.monotonic()
        verdict = run(plan, folder, lambda done, phase: progress.update(task, completed=done, phase=phase))
        elapsed_s = time.monotonic() - began_s
        return RunReport(store, plan.seed, plan.processes, elapsed_s, verdict, plan.is_behind_nginx)


def _plan(store: str, options: argparse.Namespace, console: Console) -> Plan:
    pairs = QUICK_PAIRS if options.quick else options.pairs
    faults = _CHANGES | (dict.fromkeys(_FAULTS[store], 1) if options.quick else _FAULTS[store])
    disk_mb = 0
    if store == "sqlite" and SmallDisk.is_possible():
        disk_mb = _SMALLEST_DISK_MB + pairs * _DISK_BYTES_FOR_EACH_PAIR // 1_000_000
    elif store == "sqlite":
        faults.pop("full disk")
        console.print("Only root can mount a small disk: no disk will be full in this run.", style="yellow")
    if options.nginx:
        faults = {name: count for name, count in faults.items() if name not in _OF_THE_NETWORK}
    serves = options.serves or (1 if options.nginx else 2)
    reload_s = _RELOAD_QUICKLY_S if options.quick else _RELOAD_EVERY_S
    return Plan(
        store=store,
        pairs=pairs,
        seed=options.seed,
        faults=faults,
        serves=1 if store == "sqlite" else serves,
        workers=0 if store == "sqlite" else options.workers,
        disk_mb=disk_mb,
        keep=options.keep,
        endpoints=BEHIND_NGINX if options.nginx else FIRST_ENDPOINTS,
        reload_nginx_every_s=reload_s if options.nginx else None,
    )


@contextmanager
def _folder(store: str, console: Console, *, keep: bool) -> Iterator[Path]:
    if keep:
        folder = Path(tempfile.mkdtemp(prefix=f"loyalpro-chaos-{store}-"))
        console.print(f"{store}: everything is kept in {folder}")
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix=f"loyalpro-chaos-{store}-") as name:
            yield Path(name)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[phase]:10}"),
    )
    return Progress(*columns, TimeElapsedColumn(), console=console)


if __name__ == "__main__":
    main()
