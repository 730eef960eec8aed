"""Puts SQL text together from constants: placeholders, lists of parameters, and WHERE clauses. Values are parameters."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
Condition = str | tuple[str, object | None]
"""A condition without a parameter, or a condition with one `?` and the value of it."""

_LARGEST_CHUNK: Final = 256
FIRST: Final = (-1, "")
"""Before every pair of an instant and an id, for a list that is read from the beginning."""
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


def flat(rows: Iterable[Iterable[object]]) -> list[object]:
    """The parameters of `VALUES` with these rows."""
    return [value for row in rows for value in row]


def padded_chunks(values: Sequence[T]) -> Iterator[list[T]]:
    """`values` in chunks of up to 256, each padded as `padded_list` does it."""
    for start in range(0, len(values), _LARGEST_CHUNK):
        yield padded_list(values[start : start + _LARGEST_CHUNK])


def keys_table(count: int) -> str:
    """`FROM` of `count` keys: a table `keys` with two columns, to be joined with a table whose unique index has both.

    For keys that begin with one account, `account_id = ? AND key IN (...)` would read all rows of the account when PostgreSQL
    has no statistics, or those of a time with few rows. A table is joined by both columns of its index whatever the statistics
    are. On SQLite, `CROSS JOIN` makes `keys` the outer table. The parameters are those of `padded_keys`.
    """
    return f"FROM (VALUES {marks(count, '(?, ?)')}) AS keys CROSS JOIN"


def padded_keys(account_id: str, keys: Collection[str]) -> list[tuple[str, str | None]]:
    """The different `keys`, of which there is at least one, each with the account, padded to a length of a power of two.

    The padding has no key, because a join finds the rows of a repeated key twice.
    """
    different = sorted(set(keys))
    padded = [*different, *[None] * (_padded_length(different) - len(different))]
    return [(account_id, key) for key in padded]


def padded_list(values: Collection[T]) -> list[T]:
    """`values`, of which there is at least one, with the last repeated until the length is a power of two.

    For statements that name many rows and whose effect does not change when they name a row twice: such a statement
    then exists in few lengths, and the database prepares each of them once.
    """
    items = list(values)
    return items + items[-1:] * (_padded_length(items) - len(items))


def _padded_length(values: Collection[object]) -> int:
    return 1 << (len(values) - 1).bit_length()
