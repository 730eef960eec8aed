"""The schema of a database as text, for readers and for comparisons. It is the same for every version of a server."""

import re
from pathlib import Path
from typing import Any

import apsw
import psycopg

from loyalpro.storage.postgres import database as postgres
from loyalpro.storage.sqlite import database as sqlite

_HEAD = "-- The schema after every migration, written by `make schema`. Nothing runs it: the migrations make it.\n"
_WEEK = re.compile(r"_\d{8}$")
"""Weekly partitions are created and dropped over time, so they are not part of the schema."""

FILES = {
    "sqlite": sqlite.MIGRATIONS.parent / "schema.sql",
    "postgres": postgres.MIGRATIONS.parent / "schema.sql",
}

_RELATIONS = """
SELECT c.oid, c.relname, c.relispartition, p.relname, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid),
    array_to_string(c.reloptions, ', ')
FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attcollation <> t.typcollation THEN l.collname END,
    pg_get_expr(d.adbin, d.adrelid), a.attnotnull
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %s AND contype IN ('p', 'u', 'c', 'f') ORDER BY position(contype::text IN 'pufc'), conname
"""
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND NOT c.relispartition AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid)
ORDER BY c.relname
"""
_TRIGGERS = """
SELECT pg_get_triggerdef(oid) FROM pg_trigger
WHERE tgrelid = %s AND NOT tgisinternal AND tgparentid = 0 ORDER BY tgname
"""
_FUNCTIONS = """
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname
"""
_SEQUENCES = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"


def dump(url: str) -> str:
    """The schema of a database as SQL text."""
    return _HEAD + (_dump_sqlite(url) if url.startswith("sqlite") else _dump_postgres(url))


def _dump_sqlite(url: str) -> str:
    connection = apsw.Connection(str(Path(url.removeprefix("sqlite:///"))))
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        " ORDER BY tbl_name, type = 'trigger', type = 'index', name"
    ).fetchall()
    connection.close()
    return "".join(f"\n{sql};\n" for (sql,) in rows)


def _dump_postgres(url: str) -> str:
    with psycopg.connect(url) as session:
        parts = [f"CREATE SEQUENCE {name}" for (name,) in session.execute(_SEQUENCES)]
        parts += [source.strip() for (source,) in session.execute(_FUNCTIONS)]
        for relation in session.execute(_RELATIONS).fetchall():
            if not (relation[2] and _WEEK.search(relation[1])):
                parts += _relation(session, *relation)
    return "".join(f"\n{part};\n" for part in parts)


def _relation(
    session: psycopg.Connection[Any],
    oid: int,
    name: str,
    is_partition: bool,  # noqa: FBT001 - a column of the row
    parent: str | None,
    bound: str | None,
    key: str | None,
    options: str | None,
) -> list[str]:
    table = f"CREATE TABLE {name} PARTITION OF {parent} {bound}" if is_partition else _table(session, oid, name)
    table += f" PARTITION BY {key}" if key else ""
    table += f" WITH ({options})" if options else ""
    more = [sql for query in (_INDEXES, _TRIGGERS) for (sql,) in session.execute(query.encode(), (oid,))]
    return [table, *more]


def _table(session: psycopg.Connection[Any], oid: int, name: str) -> str:
    lines = [
        f"{column} {type_}{_if(' COLLATE', collation)}{_if(' DEFAULT', default)}{' NOT NULL' if not_null else ''}"
        for column, type_, collation, default, not_null in session.execute(_COLUMNS.encode(), (oid,))
    ]
    lines += [f"CONSTRAINT {label} {sql}" for label, sql in session.execute(_CONSTRAINTS.encode(), (oid,))]
    return f"CREATE TABLE {name} (\n    " + ",\n    ".join(lines) + "\n)"


def _if(word: str, value: str | None) -> str:
    return f'{word} "{value}"' if value and "COLLATE" in word else f"{word} {value}" if value else ""
