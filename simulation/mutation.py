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
_PARTS = ("delivery", "events", "jobs", "storage", "transport", "webhooks")


@dataclass(frozen=True, slots=True)
class Patch:
    """One text in one module that is replaced by another."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake that somebody could make, and the first seed that is known to show it."""

    name: str
    seed: int
    patches: tuple[Patch, ...]


def product_of(mutant: Mutant) -> Product:
    """The product with this mistake in it."""
    copy = _Copy(mutant.patches)
    unit_of_work = copy.load("loyalpro.storage.unit_of_work")
    engine = copy.load("loyalpro.delivery.engine")
    product = Product(
        engine=engine.Engine,
        settings=engine.EngineSettings,
        leases=copy.load("loyalpro.delivery.worker_registration").LeaseTimes,
        schedule=copy.load("loyalpro.delivery.schedule").RetrySchedule,
        store=copy.load("loyalpro.storage.delivery_store").DatabaseDeliveryStore,
        scheduler=copy.load("loyalpro.jobs.scheduler").JobScheduler,
        delivery_jobs=copy.load("loyalpro.delivery.maintenance").delivery_jobs,
        replays=copy.load("loyalpro.webhooks.replays").ReplayJob,
        runner=unit_of_work.DatabaseUnitOfWorkRunner,
        tools=unit_of_work.Tools,
        sign=copy.load("loyalpro.transport.request").sign_attempt,
    )
    unused = {patch.module for patch in mutant.patches} - copy.loaded
    assert not unused, f"nothing loads {unused}: the mistake is not in the product"
    return product


class _Copy:
    """Modules of their own: the patched ones, and all that import them."""

    def __init__(self, patches: Sequence[Patch]) -> None:
        self._patches = patches
        self._copied = _importers({patch.module for patch in patches})
        self._modules: dict[str, ModuleType] = {}

    @property
    def loaded(self) -> set[str]:
        """The copies that there are by now."""
        return set(self._modules)

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
