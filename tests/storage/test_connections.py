"""Statements that are sent together, on either database."""

import contextlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.storage.connection import DriverConnection, RetryTransaction, Statement
from support.databases import Databases
from support.history import connect

WORKER = "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, 'h', 1, 1, 1) RETURNING id"


def worker(id_: str) -> Statement:
    return WORKER, (id_,)


def test_each_of_several_statements_returns_its_own_rows(database_url: str) -> None:
    connection = connect(database_url)
    connection.begin()
    nobody: Statement = ("SELECT id FROM workers WHERE id = ?", ("wrk_9",))
    assert connection.execute_all([worker("wrk_1"), nobody, worker("wrk_2")]) == [[("wrk_1",)], [], [("wrk_2",)]]
    assert connection.execute_all([]) == []
    connection.commit()
    connection.close()


def test_when_one_of_several_collides_all_of_the_transaction_can_be_tried_again(databases: Databases) -> None:
    connection = connect(databases.fresh("postgres"))
    connection.begin()
    with pytest.raises(RetryTransaction):
        connection.execute_all([worker("wrk_1"), worker("wrk_1"), worker("wrk_2")])
    connection.rollback()
    connection.begin()
    assert connection.execute_all([worker("wrk_1"), worker("wrk_2")]) == [[("wrk_1",)], [("wrk_2",)]]
    connection.rollback()
    connection.close()


INCOMPLETE = r"(?i)not.?null"


def break_something(connection: DriverConnection, then: Callable[[], None] | None = None) -> None:
    connection.execute_many("INSERT INTO workers (id) VALUES (?)", [("no host",)])
    (then or connection.flush)()


class Ledger:
    """A connection beside a plain account of what it must hold. `part`: the names of a part that is not released yet."""

    def __init__(self, connection: DriverConnection) -> None:
        self.connection = connection
        self.committed: frozenset[str] = frozenset()
        self.whole: frozenset[str] = frozenset()
        self.part: frozenset[str] | None = None
        self._numbers = itertools.count()

    @property
    def now(self) -> frozenset[str]:
        """What the transaction must see."""
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

    def look(self) -> None:
        assert {id_ for (id_,) in self.connection.execute("SELECT id FROM accounts")} == self.now

    def flush(self) -> None:
        self.connection.flush()

    def enter(self) -> None:
        if self.part is None:
            self.connection.savepoint()
            self.part = frozenset()

    def keep(self) -> None:
        if self.part is not None:
            self.connection.flush()
            self.connection.release()
            self.whole, self.part = self.now, None

    def undo(self) -> None:
        if self.part is not None:
            self.connection.undo()
            self.part = None

    def fail(self) -> None:
        """Break something within a part, which then has to be undone."""
        if self.part is not None:
            with pytest.raises(Exception, match=INCOMPLETE):
                break_something(self.connection)
            self.undo()

    def abandon(self) -> None:
        """Undo a part, some of which has been sent, and some of which is broken and has not."""
        if self.part is not None:
            self.look()
            with contextlib.suppress(Exception):  # SQLite says so at once
                break_something(self.connection, then=lambda: None)
            self.undo()

    def commit(self) -> None:
        self.keep()
        self.connection.commit()
        self.committed = self.whole
        self.connection.begin()

    def roll_back(self) -> None:
        self.connection.rollback()
        self.whole, self.part = self.committed, None
        self.connection.begin()


def write_one(ledger: Ledger) -> None:
    ledger.write(1)


STEPS = st.one_of(
    st.just(write_one),
    st.builds(lambda count: lambda ledger: ledger.write(count), st.sampled_from([1, 2, 9])),
    st.sampled_from([Ledger.look, Ledger.flush, Ledger.enter, Ledger.keep, Ledger.undo, Ledger.fail, Ledger.abandon]),
    st.sampled_from([Ledger.commit, Ledger.roll_back]),
)


@given(steps=st.lists(STEPS, max_size=25))
@example(steps=[Ledger.enter, Ledger.undo, write_one, Ledger.flush, Ledger.roll_back])
def test_what_waits_to_be_sent_is_never_lost_and_never_comes_back(
    database_url: str, steps: list[Callable[[Ledger], None]]
) -> None:
    connection = connect(database_url)
    connection.begin()
    connection.execute("DELETE FROM accounts")
    connection.commit()
    connection.begin()
    ledger = Ledger(connection)
    for step in steps:
        step(ledger)
    ledger.commit()
    connection.rollback()
    connection.close()
    fresh = connect(database_url)
    assert {id_ for (id_,) in fresh.execute("SELECT id FROM accounts")} == ledger.committed
    fresh.close()


def test_what_waits_is_told_to_be_wrong_before_it_is_committed(database_url: str) -> None:
    connection = connect(database_url)
    connection.begin()
    with pytest.raises(Exception, match=INCOMPLETE):
        break_something(connection, then=connection.commit)
    connection.rollback()
    assert connection.execute("SELECT id FROM workers") == []
    connection.close()
