"""Maps the columns of a table to the fields of a record, by name and in both directions.

A mapper takes the order of the columns from the fields of the record, once. A table that selects `mapper.columns()` passes each
row to `mapper.record`, or to `mapper.split` when more columns follow. No table counts positions by hand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cache, cached_property
from operator import attrgetter
from types import NoneType
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints

import msgspec

from loyalpro.storage.connection import Row

R = TypeVar("R")
E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Codec:
    """Converts a field to a value that the database can hold, and back. NULL and None stay as they are."""

    encode: Callable[[Any], object]
    decode: Callable[[Any], Any]


_encode_json: Final = msgspec.json.Encoder().encode
_decode_json: Final = msgspec.json.Decoder().decode
JSON: Final = Codec(lambda value: _encode_json(value).decode(), _decode_json)
JSON_TUPLE: Final = Codec(JSON.encode, msgspec.json.Decoder(tuple).decode)
FLAG: Final = Codec(int, bool)
WORDS: Final = Codec(" ".join, lambda text: tuple(text.split(" ")))
"""Short words as one text, separated by spaces."""


def enum(kind: type[E]) -> Codec:
    """A `StrEnum` as its text."""
    return Codec(attrgetter("value"), kind)


Codecs = Sequence[tuple[int, Codec]]
"""The values of a row that have a codec: the index of each and its codec."""


class RowMapper(Generic[R]):
    """The columns of one record type in one table.

    `codecs`: by field. `columns`: the name of the column, for a field that has another name. `parts`: fields that are records
    themselves, whose own fields are columns of the table. Raises TypeError for a field that the record does not have.
    """

    def __init__(
        self,
        kind: type[R],
        table: str,
        *,
        codecs: Mapping[str, Codec] | None = None,
        columns: Mapping[str, str] | None = None,
        parts: Mapping[str, type] | None = None,
    ) -> None:
        self.table = table
        self._kind = kind
        self._parts = parts or {}
        self._names = columns or {}
        self._paths = list(_paths(kind, self._parts))
        self._columns = [self._column(path) for path in self._paths]
        self.width = len(self._columns)
        """How many columns there are."""
        self._by_path = codecs or {}
        unknown = (set(self._by_path) | set(self._names)) - set(self._paths)
        if unknown:
            raise TypeError(f"{kind.__name__} has no field {sorted(unknown)}")
        self._read = _getter(self._paths)
        self._codecs = self._codecs_of(self._paths)
        self._reader = cache(self._make_reader)
        self._slices = _slices(kind, self._parts)
        self.insert = self.insert_many(1)

    def columns(self, alias: str = "") -> str:
        """`id, name, ...` for a SELECT, or `c.id, c.name, ...` with the alias `c`."""
        prefix = f"{alias}." if alias else ""
        return ", ".join(prefix + column for column in self._columns)

    def values(self, item: R) -> tuple[object, ...]:
        """The values of all columns, in their order."""
        return self.encoded(self._read(item))

    def encoded(self, values: tuple[object, ...]) -> tuple[object, ...]:
        """The values of all columns, from the values of all fields in their order."""
        return _encoded(values, self._codecs)

    def record(self, row: Row) -> R:
        """The record of a row that begins with the columns, in their order."""
        if not self._codecs and not self._slices:
            return self._kind(*row[: self.width])
        values = list(row[: self.width])
        for index, codec in self._codecs:
            if values[index] is not None:
                values[index] = codec.decode(values[index])
        for index, kind, width in self._slices:
            values[index : index + width] = [kind(*values[index : index + width])]
        return self._kind(*values)

    def split(self, row: Row) -> tuple[R, Row]:
        """The record of a row that begins with the columns, and the rest of the row."""
        return self.record(row), row[self.width :]

    def records(self, rows: Iterable[Row]) -> list[R]:
        """The record of each row."""
        return [self.record(row) for row in rows]

    def assignments(self, *names: str) -> str:
        """`email = ?, name = ?` for an UPDATE of these fields; a part stands for all of its own."""
        return ", ".join(f"{self._columns[index]} = ?" for index in self._indices(names))

    def values_of(self, item: R, *names: str) -> tuple[object, ...]:
        """The values that belong to `assignments` of the same fields."""
        return self._reader(names)(item)

    def insert_many(self, count: int) -> str:
        """An INSERT of so many rows at once. Its parameters are the values of all rows, one after the other."""
        row = f"({', '.join('?' * self.width)})"
        return f"INSERT INTO {self.table} ({', '.join(self._columns)}) VALUES {', '.join([row] * count)}"

    def update_many(self, key: str, *names: str) -> str:
        """An UPDATE of these fields in many rows, each found by `key`.

        `{rows}` stands for the rows of a VALUES list: the key, then the values that `values_of` returns for the fields. A
        column of VALUES that has nothing but NULL is a text on PostgreSQL, so a value that may be missing is converted.
        """
        values = [(self._columns[index], self._paths[index]) for index in self._indices(names)]
        wanted = ", ".join(
            f"{column} = {self._typed(path, f'v.column{number}')}" for number, (column, path) in enumerate(values, 2)
        )
        found_by = self._columns[self._indices([key])[0]]
        return f"UPDATE {self.table} SET {wanted} FROM (VALUES {{rows}}) AS v WHERE {self.table}.{found_by} = v.column1"

    @cached_property
    def _hints(self) -> dict[str, Any]:
        """The types of the fields. They are read once, because statements are built on the way of every purchase."""
        return get_type_hints(self._kind)

    def _typed(self, path: str, value: str) -> str:
        is_optional = get_args(self._hints.get(path)) == (int, NoneType)
        return f"CAST({value} AS BIGINT)" if is_optional else value

    def _column(self, path: str) -> str:
        return self._names.get(path, path.rpartition(".")[2])

    def _codecs_of(self, paths: Sequence[str]) -> Codecs:
        return [(index, self._by_path[path]) for index, path in enumerate(paths) if path in self._by_path]

    def _make_reader(self, names: tuple[str, ...]) -> Callable[[R], tuple[object, ...]]:
        """The function that reads and encodes these fields. It is made once, because it runs for thousands of rows a second."""
        paths = [self._paths[index] for index in self._indices(names)]
        read, codecs = _getter(paths), self._codecs_of(paths)
        return lambda item: _encoded(read(item), codecs)

    def _indices(self, names: Sequence[str]) -> list[int]:
        found: list[int] = []
        for name in names:
            mine = [index for index, path in enumerate(self._paths) if path == name or path.startswith(f"{name}.")]
            if not mine:
                raise TypeError(f"{self._kind.__name__} has no field {name}")
            found += mine
        return found


def _paths(kind: type, parts: Mapping[str, type]) -> Iterable[str]:
    """The attribute path from a record to the value of each column: `id`, `balance.available` ..."""
    for field in fields(kind):
        if field.name in parts:
            yield from (f"{field.name}.{path}" for path in _paths(parts[field.name], {}))
        else:
            yield field.name


def _slices(kind: type, parts: Mapping[str, type]) -> list[tuple[int, type, int]]:
    """Of each part its index in a row in which the parts before it are already records, its type, and its number of columns."""
    return [
        (index, parts[field.name], len(fields(parts[field.name])))
        for index, field in enumerate(fields(kind))
        if field.name in parts
    ]


def _encoded(values: tuple[object, ...], codecs: Codecs) -> tuple[object, ...]:
    if not codecs:
        return values
    encoded = list(values)
    for index, codec in codecs:
        if encoded[index] is not None:
            encoded[index] = codec.encode(encoded[index])
    return tuple(encoded)


def _getter(paths: Sequence[str]) -> Callable[[Any], tuple[object, ...]]:
    if len(paths) == 1:
        one = attrgetter(paths[0])
        return lambda item: (one(item),)
    many: Callable[[Any], tuple[object, ...]] = attrgetter(*paths)
    return many
