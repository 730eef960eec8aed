"""Statements that are sent together, on either database."""

import pytest

from loyalpro.storage.connection import RetryTransaction, Statement
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
