"""Copies of the product with one mistake each, to prove that the checker would see it.

A mutant is compiled from patched source into modules of its own; the real ones are not touched. A patch whose text is no
longer there fails loudly: then the code has changed, and the mutant must be written anew.
"""

import ast
import builtins
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import loyalpro
from simulation.product import Product

_ROOT = Path(loyalpro.__file__).parent
_PARTS = ("delivery", "events", "storage", "transport")


@dataclass(frozen=True, slots=True)
class Patch:
    """One text in one module that is replaced by another."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake that somebody could make."""

    name: str
    patches: tuple[Patch, ...]


def product_of(mutant: Mutant) -> Product:
    """The product with this mistake in it."""
    copy = _Copy(mutant.patches)
    unit_of_work = copy.load("loyalpro.storage.unit_of_work")
    engine = copy.load("loyalpro.delivery.engine")
    return Product(
        engine=engine.Engine,
        settings=engine.EngineSettings,
        leases=copy.load("loyalpro.delivery.membership").LeaseTimes,
        schedule=copy.load("loyalpro.delivery.schedule").RetrySchedule,
        store=copy.load("loyalpro.storage.delivery_store").DatabaseDeliveryStore,
        sweeper=copy.load("loyalpro.delivery.sweeper").Sweeper,
        sweeps=copy.load("loyalpro.storage.sweep_store").SweepStore,
        replays=copy.load("loyalpro.storage.replay_store").ReplayStore,
        transactions=unit_of_work.Transactions,
        tools=unit_of_work.Tools,
        sign=copy.load("loyalpro.transport.request").sign_attempt,
    )


class _Copy:
    """Modules of their own: the patched ones, and all that import them."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches
        self._copied = _importers({patch.module for patch in patches})
        self._modules: dict[str, ModuleType] = {}

    def load(self, name: str) -> ModuleType:
        if name not in self._copied:
            return importlib.import_module(name)
        if name not in self._modules:
            module = self._modules[name] = ModuleType(name)
            module.__dict__["__builtins__"] = vars(builtins) | {"__import__": self._import}
            exec(compile(self._source(name), str(_path(name)), "exec"), module.__dict__)
        return self._modules[name]

    def _source(self, name: str) -> str:
        source = _path(name).read_text()
        for patch in self._patches:
            if patch.module == name:
                assert source.count(patch.old) == 1, f"{name} has changed: write the mutant anew for {patch.old!r}"
                source = source.replace(patch.old, patch.new)
        return source

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the name that `__import__` gives it
        locals: Mapping[str, object] | None = None,  # noqa: A002 - the same
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if name in self._copied and fromlist:
            return self.load(name)
        return __import__(name, globals, locals, fromlist, level)


def _path(module: str) -> Path:
    return _ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")


def _importers(modules: set[str]) -> set[str]:
    """These modules, and every one that needs one of them, directly or not."""
    found = set(modules)
    while True:
        more = {name for name, imported in _imports().items() if imported & found} - found
        if not more:
            return found
        found |= more


@cache
def _imports() -> dict[str, frozenset[str]]:
    paths = [path for part in _PARTS for path in (_ROOT / part).rglob("*.py") if path.stem != "__init__"]
    return {".".join(("loyalpro", *path.relative_to(_ROOT).with_suffix("").parts)): _imported(path) for path in paths}


def _imported(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))


MUTANTS = (
    Mutant(
        "fan-out outside the transaction",
        (
            Patch("loyalpro.storage.unit_of_work", "return result, unit.outbox.flush()", "return result, unit.outbox"),
            Patch(
                "loyalpro.storage.unit_of_work",
                "        result, owed = await self._database.write(transaction)\n",
                "        result, outbox = await self._database.write(transaction)\n"
                "        def fan_out(connection):\n"
                "            outbox._store = EventTables(connection)\n"
                "            return outbox.flush()\n"
                "        owed = await self._database.write(fan_out)\n",
            ),
        ),
    ),
    Mutant(
        "settled as succeeded before the send",
        (
            Patch(
                "loyalpro.delivery.engine",
                "                attempt = await self._attempt(claimed, now)\n",
                "                early = close_unsent(claimed, now)\n"
                "                await self._settle(worker, dataclasses.replace(early, status=DeliveryStatus.SUCCEEDED))\n"
                "                attempt = await self._attempt(claimed, now)\n",
            ),
            Patch("loyalpro.delivery.engine", "import asyncio\n", "import asyncio\nimport dataclasses\n"),
        ),
    ),
    Mutant(
        "a lease never expires",
        (Patch("loyalpro.storage.tables.leases", "WHERE expires_at < ?", "WHERE 1 = 0 AND expires_at < ?"),),
    ),
    Mutant(
        "a settlement is not fenced",
        (Patch("loyalpro.storage.tables.leases", "AND deliveries.lease = ?\n", "AND ? <> ''\n"),),
    ),
    Mutant(
        "a retry has a new event id",
        (
            Patch(
                "loyalpro.transport.request",
                "*sign(secrets, secrets[0], claimed.event_id, timestamp_s, claimed.body)",
                "*sign(secrets, secrets[0], claimed.event_id[:-1] + str(claimed.attempt_number % 10), timestamp_s,"
                " claimed.body)",
            ),
        ),
    ),
    Mutant(
        "a retry has new bytes",
        (
            Patch(
                "loyalpro.delivery.engine",
                "OutgoingRequest(claimed.target.url, headers, claimed.body,",
                "OutgoingRequest(claimed.target.url, headers, claimed.body + b' ' * (claimed.attempt_number - 1),",
            ),
        ),
    ),
    Mutant(
        "given up in silence instead of exhausted",
        (
            Patch(
                "loyalpro.delivery.decide",
                "DeliveryStatus.EXHAUSTED, now, attempt, gone)",
                "DeliveryStatus.CANCELED, now, attempt, gone)",
            ),
        ),
    ),
    Mutant(
        "given up at the third failure",
        (Patch("loyalpro.delivery.decide", "    if due is None:", "    if due is None or attempt.number >= 3:"),),
    ),
    Mutant(
        "order is ignored",
        (Patch("loyalpro.storage.tables.leases", "AND earlier.sequence < d.sequence", "AND earlier.sequence < 0"),),
    ),
    Mutant(
        "tried after the window",
        (
            Patch(
                "loyalpro.delivery.schedule",
                "return due if due + _SHORTEST_GAP_S * MS_PER_S <= last else last",
                "return due",
            ),
            Patch("loyalpro.delivery.schedule", "return now > first_attempt_at", "return now < 0 * first_attempt_at"),
        ),
    ),
    Mutant(
        "an interrupted attempt is not written down",
        (Patch("loyalpro.storage.tables.leases", "        self._insert_attempts(lost)\n", ""),),
    ),
    Mutant(
        "an attempt is not counted when it is claimed",
        (
            Patch(
                "loyalpro.storage.tables.leases",
                "SET lease = ?, attempts = attempts + 1",
                "SET lease = ?, attempts = 1",
            ),
        ),
    ),
    Mutant(
        "a retry is never due",
        (
            Patch(
                "loyalpro.delivery.decide",
                "DeliveryStatus.PENDING, due, attempt",
                "DeliveryStatus.PENDING, 2 * due, attempt",
            ),
        ),
    ),
    Mutant(
        "owed to endpoints that did not ask",
        (Patch("loyalpro.events.outbox", " if each.wants(new.type)]", "]"),),
    ),
    Mutant(
        "a wake is lost, and nobody looks",
        (
            Patch(
                "loyalpro.delivery.engine",
                "self._hot.update(dict.fromkeys(sorted(endpoint_ids)))",
                "list(endpoint_ids)",
            ),
            Patch("loyalpro.delivery.engine", "self._hot.update(dict.fromkeys(survey.due))", "list(survey.due)"),
        ),
    ),
    Mutant(
        "a failed write of the outcome is taken for done",
        (
            Patch(
                "loyalpro.delivery.settler",
                "                await self._clock.wait(self._never, pause_s)\n",
                "                return frozenset(each.delivery_id for each in settlements)\n",
            ),
        ),
    ),
    Mutant(
        "a lost answer is taken for a lost request",
        (
            Patch(
                "loyalpro.delivery.engine",
                "outcome=classify(result)",
                "outcome=OutcomeCode.SUCCEEDED if result.failure else classify(result)",
            ),
        ),
    ),
    Mutant(
        "what a receiver asks to wait is not waited for",
        (
            Patch(
                "loyalpro.delivery.decide",
                "retry_after_ms=retry_after_ms(attempt.response, now)",
                "retry_after_ms=None",
            ),
        ),
    ),
)
