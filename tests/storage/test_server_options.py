"""Options of a PostgreSQL server, database or role: LoyalPro works with all of them, or refuses to start with one sentence."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import LoyalProError
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.requirements import Facts, refusals
from loyalpro.storage.postgres.session import ADMINISTRATION, UPKEEP, WORK, SessionKind, settings
from support.databases import Databases
from support.writes import insert, names

TABLES = """
SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
"""
HOSTILE = {
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "datestyle": "German",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_nestloop": "off",
    "enable_partition_pruning": "off",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "1",
    "intervalstyle": "iso_8601",
    "jit": "on",
    "plan_cache_mode": "force_generic_plan",
    "standard_conforming_strings": "off",
    "statement_timeout": "3s",
    "timezone": "Asia/Tokyo",
    "transform_null_equals": "on",
}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def operate(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        for statement in statements:
            session.execute(statement.encode())


def start(url: str) -> None:
    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        await database.stop()

    asyncio.run(main())


def refused(url: str) -> str:
    """The one sentence, or two, with which a start and a migration are refused."""
    texts = set()
    for run in (start, lambda url: migrate_database(url, SystemClock())):
        with pytest.raises(LoyalProError) as caught:
            run(url)
        texts.add(caught.value.detail)
    [text] = texts
    assert "\n" not in text
    return text


@pytest.mark.parametrize("kind", [WORK, UPKEEP, ADMINISTRATION])
def test_options_of_the_database_do_not_change_a_session(databases: Databases, kind: SessionKind) -> None:
    url = databases.fresh("postgres")
    operate(url, *(f"ALTER DATABASE \"{name_of(url)}\" SET {name} = '{value}'" for name, value in HOSTILE.items()))
    connection = PostgresConnection(url, read_only=False, kind=kind)
    wanted = settings(kind, read_only=False, server_version=130_000)
    assert {name: connection.execute(f"SHOW {name}")[0][0] for name in wanted} == {
        **wanted,
        "statement_timeout": {10: "10s", 60: "1min", None: "0"}[kind.statement_limit_s],
    }
    planner = {name for name in HOSTILE if name.startswith("enable_")} | {"jit", "plan_cache_mode"}
    assert set(HOSTILE) - planner <= {name.lower() for name in wanted}
    texts = ("€ 日本 \\ '", b"\x00\xff\\", 1.1)
    assert connection.execute("SELECT ?::text, ?::bytea, ?::float8", texts) == [texts]
    connection.close()


def test_a_server_works_with_hostile_options_of_its_role_and_database(databases: Databases) -> None:
    url = databases.fresh("postgres")
    operate(url, *(f"ALTER DATABASE \"{name_of(url)}\" SET {name} = '{value}'" for name, value in HOSTILE.items()))

    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        await database.write(insert("€ 日本"))
        assert await database.read(names) == {"€ 日本"}
        await database.stop()

    asyncio.run(main())


def test_idle_sessions_stay_connected(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with psycopg.connect(url) as session:
        version = session.info.server_version
    assert "idle_session_timeout" not in settings(WORK, read_only=False, server_version=130_000)
    assert settings(WORK, read_only=False, server_version=140_000)["idle_session_timeout"] == "0"
    assert settings(ADMINISTRATION, read_only=False, server_version=170_000)["transaction_timeout"] == "0"
    connection = PostgresConnection(url, read_only=True)
    for name in {"idle_session_timeout", "transaction_timeout"} & set(
        settings(WORK, read_only=True, server_version=version)
    ):
        assert connection.execute(f"SHOW {name}") == [("0",)]
    connection.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_cannot_hold_every_text_is_refused(databases: Databases, encoding: str) -> None:
    home = databases.cluster.dsn("postgres")
    name = f"encoded_{encoding.lower()}"
    operate(home, f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    assert f"has the encoding {encoding}" in (text := refused(databases.cluster.dsn(name)))
    assert "ENCODING 'UTF8'" in text
    operate(home, f"DROP DATABASE {name}")


def test_a_database_that_is_read_only_by_default_is_refused(databases: Databases) -> None:
    """An operator, or a provider whose disk is nearly full, has said that nothing may be written."""
    url = databases.fresh("postgres")
    operate(url, f'ALTER DATABASE "{name_of(url)}" SET default_transaction_read_only = on')
    assert "default_transaction_read_only" in refused(url)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("synchronous_commit", "off", "synchronous_commit=off"),
        ("session_replication_role", "replica", "session_replication_role=replica"),
        ("search_path", "nowhere", "search_path"),
    ],
)
def test_an_option_that_loses_data_or_hides_the_tables_is_refused(
    databases: Databases, setting: str, value: str, reason: str
) -> None:
    url = databases.fresh("postgres")
    operate(url, f'ALTER DATABASE "{name_of(url)}" SET {setting} = {value}')
    assert reason in refused(url)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_does_not_survive_a_power_failure_is_refused(setting: str) -> None:
    durability = dict.fromkeys(("synchronous_commit", "fsync", "full_page_writes"), "on")
    safe = Facts(
        version=130_000,
        encoding="UTF8",
        durability=durability,
        replication_role="origin",
        role="r",
        database="d",
        schema="s",
        backend=1,
    )
    assert list(refusals(safe)) == []
    [refusal] = refusals(replace(safe, durability={**durability, setting: "off"}))
    assert f"Set {setting}=on" in refusal
    [refusal] = refusals(replace(safe, version=120_000))
    assert "13 or newer" in refusal


class Role:
    """A role with a password, and the URL of a database for it."""

    def __init__(self, url: str, name: str) -> None:
        self._home, self.name = url, name
        operate(url, f"CREATE ROLE {name} LOGIN PASSWORD 'for-tests'")
        scheme, _, rest = url.partition("://")
        self.url = f"{scheme}://{name}:for-tests@{rest.rpartition('@')[2]}"

    def grant(self, *statements: str) -> None:
        operate(self._home, *(f"GRANT {each} TO {self.name}" for each in statements))

    def own_everything(self) -> None:
        """Make it the owner of all that a migration creates."""
        with psycopg.connect(self._home, autocommit=True) as session:
            for (table,) in session.execute(TABLES).fetchall():
                session.execute(f"ALTER TABLE {table} OWNER TO {self.name}".encode())
            session.execute(f"ALTER FUNCTION lasting_transaction_id OWNER TO {self.name}".encode())

    def drop(self) -> None:
        operate(self._home, f"DROP OWNED BY {self.name}", f"DROP ROLE {self.name}")


@pytest.fixture
def fresh(databases: Databases) -> str:
    url = databases.fresh("postgres")
    operate(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC", f'REVOKE ALL ON DATABASE "{name_of(url)}" FROM PUBLIC')
    operate(url, f'GRANT CONNECT ON DATABASE "{name_of(url)}" TO PUBLIC')
    return url


@pytest.fixture
def role(fresh: str) -> Iterator[Role]:
    made = Role(fresh, "loyalpro_limited")
    yield made
    made.drop()


def test_a_role_is_told_which_right_it_lacks_until_it_has_all(fresh: str, role: Role) -> None:
    assert "cannot use any schema" in refused(role.url)
    role.grant("USAGE ON SCHEMA public")
    assert f'GRANT CREATE ON SCHEMA "public" TO "{role.name}"' in refused(role.url)
    role.grant("CREATE ON SCHEMA public", "ALL ON ALL TABLES IN SCHEMA public")
    assert "does not own the table" in refused(role.url)
    role.own_everything()
    assert f'GRANT TEMPORARY ON DATABASE "{name_of(fresh)}"' in refused(role.url)
    role.grant(f'TEMPORARY ON DATABASE "{name_of(fresh)}"')
    start(role.url)


def test_a_partition_of_another_owner_is_found(fresh: str, role: Role) -> None:
    role.grant("ALL ON SCHEMA public", f'ALL ON DATABASE "{name_of(fresh)}"')
    role.own_everything()
    operate(fresh, "ALTER TABLE events_default OWNER TO CURRENT_USER")
    assert "events_default" in refused(role.url)


def test_a_new_database_needs_only_the_rights_of_its_owner(databases: Databases) -> None:
    home = databases.cluster.dsn("postgres")
    owner = Role(home, "loyalpro_owner")
    operate(home, f"CREATE DATABASE owned OWNER {owner.name}")
    url = owner.url.rpartition("/")[0] + "/owned"
    start(url)
    start(url)
    operate(home, "DROP DATABASE owned")
    owner.drop()
