"""Batches of statements, deferred statements and parts of transactions, on both databases."""

import contextlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.storage.connection import DriverConnection, RetryTransaction, Statement
from loyalpro.storage.postgres.connection import repeated
from support.databases import Databases
from support.history import connect

WORKER = "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, 'h', 1, 1, 1) RETURNING id"


def worker(id_: str) -> Statement:
    return WORKER, (id_,)


def test_each_of_several_statements_returns_its_own_rows(database_url: str) -> None:
    connection = connect(database_url)
    connection.begin()
    missing: Statement = ("SELECT id FROM workers WHERE id = ?", ("wrk_9",))
    assert connection.execute_all([worker("wrk_1"), missing, worker("wrk_2")]) == [[("wrk_1",)], [], [("wrk_2",)]]
    assert connection.execute_all([]) == []
    connection.commit()
    connection.close()


def test_a_transaction_can_run_again_after_a_conflict_in_a_batch_of_statements(databases: Databases) -> None:
    connection = connect(databases.fresh("postgres"))
    connection.begin()
    with pytest.raises(RetryTransaction):
        connection.execute_all([worker("wrk_1"), worker("wrk_1"), worker("wrk_2")])
    connection.rollback()
    connection.begin()
    assert connection.execute_all([worker("wrk_1"), worker("wrk_2")]) == [[("wrk_1",)], [("wrk_2",)]]
    connection.rollback()
    connection.close()


NOT_NULL = r"(?i)not.?null"


def run_invalid_statement(connection: DriverConnection, then: Callable[[], None] | None = None) -> None:
    connection.execute_many("INSERT INTO workers (id) VALUES (?)", [("no host",)])
    (then or connection.flush)()


class Model:
    """A connection, and a model of the rows that it has to show. `part` has the names of a part that has not ended."""

    def __init__(self, connection: DriverConnection) -> None:
        self.connection = connection
        self.committed: frozenset[str] = frozenset()
        self.whole: frozenset[str] = frozenset()
        self.part: frozenset[str] | None = None
        self._numbers = itertools.count()

    @property
    def now(self) -> frozenset[str]:
        """The names that the transaction has to see."""
        return self.whole | (self.part or frozenset())

    def write(self, count: int) -> None:
        names = [f"n{next(self._numbers)}" for _ in range(count)]
        self.connection.execute_many(
            "INSERT INTO accounts (id, name, created_at) VALUES (?, 'x', 1)", [(name,) for name in names]
        )
        if self.part is None:
            self.whole |= set(names)
        else:
            self.part |= set(names)

    def check(self) -> None:
        assert {id_ for (id_,) in self.connection.execute("SELECT id FROM accounts")} == self.now

    def flush(self) -> None:
        self.connection.flush()

    def begin_part(self) -> None:
        if self.part is None:
            self.connection.savepoint()
            self.part = frozenset()

    def keep_part(self) -> None:
        if self.part is not None:
            self.connection.flush()
            self.connection.release()
            self.whole, self.part = self.now, None

    def undo_part(self) -> None:
        if self.part is not None:
            self.connection.undo()
            self.part = None

    def fail_part(self) -> None:
        """Run an invalid statement within a part, and undo the part."""
        if self.part is not None:
            with pytest.raises(Exception, match=NOT_NULL):
                run_invalid_statement(self.connection)
            self.undo_part()

    def abandon_part(self) -> None:
        """Undo a part of which some statements were sent, and an invalid one is still deferred."""
        if self.part is not None:
            self.check()
            with contextlib.suppress(Exception):  # SQLite raises at once
                run_invalid_statement(self.connection, then=lambda: None)
            self.undo_part()

    def commit(self) -> None:
        self.keep_part()
        self.connection.commit()
        self.committed = self.whole
        self.connection.begin()

    def roll_back(self) -> None:
        self.connection.rollback()
        self.whole, self.part = self.committed, None
        self.connection.begin()


def write_one(model: Model) -> None:
    model.write(1)


STEPS = st.one_of(
    st.just(write_one),
    st.builds(lambda count: lambda model: model.write(count), st.sampled_from([1, 2, 9])),
    st.sampled_from(
        [
            Model.check,
            Model.flush,
            Model.begin_part,
            Model.keep_part,
            Model.undo_part,
            Model.fail_part,
            Model.abandon_part,
        ]
    ),
    st.sampled_from([Model.commit, Model.roll_back]),
)


@given(steps=st.lists(STEPS, max_size=25))
@example(steps=[Model.begin_part, Model.undo_part, write_one, Model.flush, Model.roll_back])
def test_deferred_statements_are_neither_lost_nor_repeated(
    database_url: str, steps: list[Callable[[Model], None]]
) -> None:
    connection = connect(database_url)
    connection.begin()
    connection.execute("DELETE FROM accounts")
    connection.commit()
    connection.begin()
    model = Model(connection)
    for step in steps:
        step(model)
    model.commit()
    connection.rollback()
    connection.close()
    fresh = connect(database_url)
    assert {id_ for (id_,) in fresh.execute("SELECT id FROM accounts")} == model.committed
    fresh.close()


def test_an_invalid_deferred_statement_raises_before_the_commit(database_url: str) -> None:
    connection = connect(database_url)
    connection.begin()
    with pytest.raises(Exception, match=NOT_NULL):
        run_invalid_statement(connection, then=connection.commit)
    connection.rollback()
    assert connection.execute("SELECT id FROM workers") == []
    connection.close()


def test_upserts_of_many_rows_insert_new_rows_and_update_stored_ones(database_url: str) -> None:
    upsert = "INSERT INTO accounts (id, name, created_at) VALUES (?, ?, 1)\nON CONFLICT (id) DO UPDATE SET name = excluded.name"
    connection = connect(database_url)
    connection.begin()
    connection.execute_many(upsert, [(f"acct_{number}", "stored") for number in range(0, 75, 2)])
    connection.execute_many(upsert, [(f"acct_{number}", f"name {number}") for number in range(75)])
    rows = connection.execute("SELECT id, name FROM accounts WHERE id LIKE 'acct%'")
    assert dict(rows) == {f"acct_{number}": f"name {number}" for number in range(75)}
    connection.rollback()
    connection.close()


@pytest.mark.parametrize("end", ["", " ON CONFLICT DO NOTHING", "\nON CONFLICT (id) DO UPDATE SET b = (excluded.b)"])
def test_one_insert_takes_many_rows_on_postgres_whatever_it_does_about_conflicts(end: str) -> None:
    assert repeated(f"INSERT INTO t (a, b) VALUES (?, ?){end}", 2) == f"INSERT INTO t (a, b) VALUES (?, ?), (?, ?){end}"
