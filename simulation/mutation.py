"""Replaces functions of the product by wrong versions for a while, to prove that the checker finds what they do.

A mutant refers to the functions themselves, so the type checker finds a changed name or signature. A wrong version is
called with the original as its first argument. Calls are counted, because a mutant of which a part never runs proves
nothing.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_PACKAGES = ("loyalpro.", "simulation.")
_OWN_MODULES = frozenset({"simulation.mutants", "simulation.program_mutants", __name__})
"""Here the names keep their originals: wrong versions need them."""


class Mistake(Protocol):
    """A part of a mutant."""

    def install(self) -> "ExitStack":
        """Put it in place; leaving the stack takes it away."""
        ...

    def unused(self) -> list[str]:
        """What of it has not run since it was put in place."""
        ...


@dataclass(frozen=True)
class Mutant:
    """A mistake that a programmer could make, and the first seed that detects it."""

    name: str
    seed: int
    mistakes: tuple[Mistake, ...]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Until the context ends, the product has this mistake in this process."""
        with ExitStack() as stack:
            for mistake in self.mistakes:
                stack.enter_context(mistake.install())
            yield

    def unused(self) -> list[str]:
        """The parts that have not run since the mutant was put in place."""
        return [part for mistake in self.mistakes for part in mistake.unused()]


class WrongFunction:
    """One function or method of the product, and the wrong version that takes its place wherever it is used."""

    def __init__(self, original: Callable[..., Any], version: Callable[..., Any]) -> None:
        self._original = original
        self._version = version
        self._calls = 0

    def install(self) -> ExitStack:
        """Put it in place; leaving the stack takes it away."""
        original, version = self._original, self._version
        self._calls = 0

        @wraps(original)
        def wrong(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            return version(original, *args, **kwargs)

        stack = ExitStack()
        for owner, name in _places(original):
            setattr(owner, name, wrong)
            stack.callback(setattr, owner, name, original)
        return stack

    def unused(self) -> list[str]:
        """The name of the function, if it has not been called."""
        return [] if self._calls else [self._original.__qualname__]


class WrongStatements:
    """One method of the product, and texts that are replaced in the statements that it runs."""

    def __init__(self, method: Callable[..., Any], changes: Sequence[tuple[str, str]]) -> None:
        self._changes = changes
        self._found: set[str] = set()
        self._function = WrongFunction(method, self._run)

    def install(self) -> ExitStack:
        """Put it in place; leaving the stack takes it away."""
        self._found.clear()
        return self._function.install()

    def unused(self) -> list[str]:
        """The texts that no statement had."""
        return [text for text, _ in self._changes if text not in self._found]

    def _run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        _active.append(self._change)
        try:
            return original(*args, **kwargs)
        finally:
            _active.pop()

    def _change(self, sql: str) -> str:
        for old, new in self._changes:
            if old in sql:
                self._found.add(old)
                sql = sql.replace(old, new)
        return sql


def wrong(original: Callable[P, T], version: Callable[Concatenate[Callable[P, T], P], T]) -> WrongFunction:
    """`version` in the place of `original`, which is its first argument."""
    return WrongFunction(original, version)


def wrong_sql(method: Callable[..., object], *changes: tuple[str, str]) -> WrongStatements:
    """Other statements of a method that runs some: each pair is a text in them, in one line, and its replacement."""
    return WrongStatements(method, changes)


def statement(sql: str) -> str:
    """The statement that the database runs when the product asks for this one."""
    if _active:
        sql = " ".join(sql.split())
        for change in _active:
            sql = change(sql)
    return sql


_active: list[Callable[[str], str]] = []


def _places(original: Callable[..., Any]) -> list[tuple[Any, str]]:
    """Where a function can be found: its class, or every module that has imported it."""
    path = original.__qualname__.split(".")
    if len(path) > 1:
        owner: Any = sys.modules[original.__module__]
        for name in path[:-1]:
            owner = getattr(owner, name)
        assert vars(owner)[path[-1]] is original, f"{original.__qualname__} is not where its name says"
        return [(owner, path[-1])]
    return [(module, name) for module in _modules() for name, value in vars(module).items() if value is original]


def _modules() -> list[ModuleType]:
    names = [name for name in sys.modules if name.startswith(_PACKAGES) and name not in _OWN_MODULES]
    return [sys.modules[name] for name in names]
