"""A small run of the chaos harness with one `kill -9`, and copies of its files that tests falsify."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.checker import Verdict
from chaos.merchant import FIRST_ENDPOINTS
from chaos.run import Plan, judge, run

Lines = list[dict[str, Any]]
RETRIES_S = (0.1, 0.2, 0.5, *[1.0] * 20)
ENDPOINTS = tuple(each for each in FIRST_ENDPOINTS if each[0] in {"steady", "ordered", "errors"})


@dataclass(frozen=True)
class Run:
    """The verdict on a run, and the folder of its files."""

    verdict: Verdict
    folder: Path


def quick_run(store: str, folder: Path) -> Run:
    """Run 2,000 pairs with one kill."""
    plan = Plan(
        store=store,
        pairs=2_000,
        seed="quick",
        faults={"kill": 1},
        serves=1 if store == "sqlite" else 2,
        customers=10,
        retries_s=RETRIES_S,
        endpoints=ENDPOINTS,
    )
    return Run(run(plan, folder, lambda _done, _phase: None), folder)


class Doctored:
    """A copy of the files of a run. `delivery` is a delivery of `points.earned` that arrived once, at its first attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = folder / "disk" / "loyalpro.db"
        times = Counter(line["delivery"] for line in self._read("hits.jsonl"))
        candidates = self.rows(
            "SELECT d.id, d.event_id, d.endpoint_id, e.customer_id FROM deliveries d JOIN events e ON e.id = d.event_id"
            " WHERE e.type = 'points.earned' AND d.attempts = 1 ORDER BY d.id"
        )
        self.delivery, self.event, self.endpoint, self.customer = next(row for row in candidates if times[row[0]] == 1)

    def judge(self) -> Verdict:
        """The verdict of the checker on the changed files."""
        return judge(self.folder, f"sqlite:///{self._database}")

    def rows(self, query: str) -> list[Any]:
        """The rows of a query."""
        with closing(sqlite3.connect(self._database)) as connection:
            return connection.execute(query).fetchall()

    def sql(self, *statements: str) -> None:
        """Change the database without its triggers and check constraints."""
        with closing(sqlite3.connect(self._database)) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def change(self, name: str, change: Callable[[Lines], object]) -> None:
        """Change the lines of each file whose name begins with `name`."""
        for path in self.folder.glob(f"{name}*.jsonl"):
            lines = self._read(path.name)
            change(lines)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def hit(self, **fields: object) -> None:
        """Change the recorded request of the delivery."""
        self.change("hits", lambda lines: self._mine(lines).update(fields))

    def second_hit(self, **fields: object) -> None:
        """Add a second recorded request of the delivery."""
        self.change("hits", lambda lines: lines.append(self._mine(lines) | {"at": lines[-1]["at"]} | fields))

    def without_hits(self) -> None:
        """Remove the recorded request of the delivery."""
        self.change("hits", lambda lines: lines.remove(self._mine(lines)))

    def _mine(self, lines: Lines) -> dict[str, Any]:
        return next(line for line in lines if line["delivery"] == self.delivery)

    def _read(self, name: str) -> Lines:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]
