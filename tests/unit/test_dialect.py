import pytest

from loyalpro.storage.dialect import POSTGRES, SQLITE, Dialect, DialectSql


def test_postgres_locks_the_rows_that_a_transaction_relies_on() -> None:
    assert POSTGRES.is_postgres
    assert f"{POSTGRES.for_update} {POSTGRES.skip_locked}" == "FOR UPDATE SKIP LOCKED"
    assert f"{POSTGRES.for_update_of('d')} {POSTGRES.skip_locked}" == "FOR UPDATE OF d SKIP LOCKED"
    assert f"{POSTGRES.for_share_of('e')} {POSTGRES.skip_locked}" == "FOR SHARE OF e SKIP LOCKED"


def test_sqlite_has_no_lock_clauses() -> None:
    assert not SQLITE.is_postgres
    clauses = SQLITE.for_update, SQLITE.for_share, SQLITE.for_update_of("d"), SQLITE.for_share_of("d")
    assert {*clauses, SQLITE.skip_locked} == {""}


@pytest.mark.parametrize(
    ("dialect", "text"), [(SQLITE, "IN (SELECT 1)"), (POSTGRES, "= ANY (ARRAY(SELECT 1))")], ids=["sqlite", "postgres"]
)
def test_a_subquery_becomes_an_array_on_postgres(dialect: Dialect, text: str) -> None:
    assert dialect.among("SELECT 1") == text


def test_a_statement_has_one_text_for_each_dialect() -> None:
    statement = DialectSql(lambda dialect: f"SELECT 1 FROM t {dialect.for_update}".rstrip())
    assert statement[SQLITE] == "SELECT 1 FROM t"
    assert statement[POSTGRES] == "SELECT 1 FROM t FOR UPDATE"
    assert statement[POSTGRES] is statement[POSTGRES]
