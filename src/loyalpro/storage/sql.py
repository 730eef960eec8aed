"""Puts SQL text together from constants: placeholders, lists of parameters, and WHERE clauses. Values are parameters."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
Condition = str | tuple[str, object | None]
"""A condition without a parameter, or a condition with one `?` and the value of it."""

_LARGEST_CHUNK: Final = 256
CHUNK_LENGTHS: Final = _LARGEST_CHUNK.bit_length()
"""How many lengths the chunks of `padded_chunks` have: a table builds a statement for each of them once."""


def marks(count: int, row: str = "?") -> str:
    """`count` placeholders for `IN (...)`: `?, ?, ?`; with `row`, that many rows for `VALUES`: `(?, ?), (?, ?)`."""
    return ", ".join([row] * count)


def where(*conditions: Condition) -> tuple[str, list[object]]:
    """`WHERE a = ? AND b = ?` and its parameters; an empty text when no condition remains.

    A condition whose value is None and a condition that is an empty text are left out, so an optional filter and a
    condition of one dialect are passed as they are.
    """
    clauses: list[str] = []
    params: list[object] = []
    for condition in conditions:
        if isinstance(condition, tuple):
            clause, value = condition
            if value is not None:
                clauses.append(clause)
                params.append(value)
        elif condition:
            clauses.append(condition)
    return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), params


def padded_chunks(values: Sequence[T]) -> Iterator[list[T]]:
    """`values` in chunks of up to 256, each padded as `padded_list` does it."""
    for start in range(0, len(values), _LARGEST_CHUNK):
        yield padded_list(values[start : start + _LARGEST_CHUNK])


def padded_list(values: Collection[T]) -> list[T]:
    """`values`, of which there is at least one, with the last repeated until the length is a power of two.

    For statements that name many rows and whose effect does not change when they name a row twice: such a statement
    then exists in few lengths, and the database prepares each of them once.
    """
    items = list(values)
    length = 1 << (len(items) - 1).bit_length()
    return items + items[-1:] * (length - len(items))
