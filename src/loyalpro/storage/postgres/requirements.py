"""What LoyalPro needs of a PostgreSQL server, of a database and of its role; each refusal says what to do."""

from collections.abc import Iterator
from typing import Final

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.kernel.record import record
from loyalpro.storage.connection import DriverConnection

_OLDEST_VERSION: Final = 130_000
_DURABILITY: Final = ("synchronous_commit", "fsync", "full_page_writes")
_FACTS: Final = f"""
SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
    ARRAY[{", ".join(f"current_setting('{name}')" for name in _DURABILITY)}],
    current_setting('session_replication_role'),
    current_user, current_database(), coalesce(current_schema(), ''), pg_backend_pid()
"""
_RIGHTS: Final = """
SELECT has_schema_privilege(current_schema(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
    ARRAY(SELECT c.relname::text FROM pg_class c WHERE NOT pg_has_role(c.relowner, 'USAGE') AND (
        c.oid IN (to_regclass('schema_migrations'), to_regclass('accounts'), to_regclass('deliveries'))
        OR c.oid IN (SELECT unnest(ARRAY[inhparent, inhrelid]) FROM pg_inherits
            WHERE inhparent IN (to_regclass('events'), to_regclass('attempts'), to_regclass('deliveries_done')))
    ) ORDER BY c.relname LIMIT 1)
"""
"""The partitions and their tables need an owner; the other tables stand for the rest."""


@record
class Facts:
    """The facts that decide whether a server can be used."""

    version: int
    encoding: str
    durability: dict[str, str]
    replication_role: str
    role: str
    database: str
    schema: str
    backend: int


@record
class Rights:
    """What the role may do. `foreign_table`: a table that it does not own."""

    creates: bool
    creates_temporary: bool
    foreign_table: str | None


def require_server(connection: DriverConnection) -> Facts:
    """The facts of the server. `ConfigurationError` when commits or texts would be lost, or no schema can be used."""
    [(version, encoding, durability, replication_role, role, database, schema, backend)] = connection.execute(_FACTS)
    facts = Facts(
        version=version,
        encoding=encoding,
        durability=dict(zip(_DURABILITY, durability, strict=True)),
        replication_role=replication_role,
        role=role,
        database=database,
        schema=schema,
        backend=backend,
    )
    for refusal in refusals(facts):
        raise ConfigurationError(refusal)
    return facts


def require_rights(connection: DriverConnection) -> None:
    """`ConfigurationError` when the role could not do what LoyalPro does while it runs."""
    facts = require_server(connection)
    [(creates, creates_temporary, foreign)] = connection.execute(_RIGHTS)
    rights = Rights(creates=creates, creates_temporary=creates_temporary, foreign_table=next(iter(foreign), None))
    for refusal in refused_rights(facts, rights):
        raise ConfigurationError(refusal)


def refusals(facts: Facts) -> Iterator[str]:
    """Why this server or database cannot be used."""
    if facts.version < _OLDEST_VERSION:
        yield "LoyalPro needs PostgreSQL 13 or newer."
    for name, value in facts.durability.items():
        if value == "off":
            yield f"PostgreSQL runs with {name}=off, so it can lose commits that it has acknowledged. Set {name}=on."
    if facts.encoding != "UTF8":
        yield (
            f"The database {facts.database} has the encoding {facts.encoding}, which cannot hold every text. Create one with: "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )
    if facts.replication_role != "origin":
        yield (
            f"The role {facts.role} has session_replication_role={facts.replication_role}, so PostgreSQL checks no references. "
            "Set it to origin."
        )
    if not facts.schema:
        yield (
            f"The role {facts.role} cannot use any schema of its search_path. Run: GRANT USAGE, CREATE ON SCHEMA public TO "
            f'"{facts.role}", or change search_path.'
        )


def refused_rights(facts: Facts, rights: Rights) -> Iterator[str]:
    """Which right is missing, and the statement that grants it."""
    if not rights.creates:
        yield (
            f"The role {facts.role} may not create tables, and LoyalPro creates one each week. As the owner of the database, "
            f'run: GRANT CREATE ON SCHEMA "{facts.schema}" TO "{facts.role}"'
        )
    if rights.foreign_table is not None:
        yield (
            f"The role {facts.role} does not own the table {rights.foreign_table}, so it could not drop old data. Connect as "
            f'the owner, or, as a superuser, run: REASSIGN OWNED BY <its owner> TO "{facts.role}"'
        )
    if not rights.creates_temporary:
        yield (
            f"The role {facts.role} may not create temporary tables, with which LoyalPro finds out whether a full disk has "
            f'space again. Run: GRANT TEMPORARY ON DATABASE "{facts.database}" TO "{facts.role}"'
        )
