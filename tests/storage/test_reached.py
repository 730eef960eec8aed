"""What is said of an event's way to its endpoints is what its deliveries say."""

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import delivery_id
from loyalpro.webhooks.reached import Reached, reached
from support.databases import Databases
from support.history import ACCOUNT, History, query, undone
from support.units import unit_on


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_what_events_have_reached(databases: Databases, store: str) -> None:
    now = SystemClock().now_ms()
    history = History(databases.fresh(store), now)
    first, second = history.endpoint(), history.endpoint()
    [partly, wholly] = history.events(first, 2, at=now)
    columns = "account_id, event_id, event_type, attempts, created_at"
    query(
        history.url,
        f"INSERT INTO deliveries (id, endpoint_id, status, due_at, {columns})"
        f" SELECT ?, ?, 'pending', 1, {columns} FROM deliveries WHERE event_id = ?",
        *(delivery_id(partly, second), second, partly),
    )
    nowhere = history.ids.new("evt")
    with undone(history.url) as connection:
        unit = unit_on(connection)
        assert reached(unit, ACCOUNT, [partly, wholly, nowhere]) == {
            partly: Reached(1, 2),
            wholly: Reached(1, 1),
            nowhere: Reached(0, 0),
        }
        assert reached(unit, "acct_other", [partly]) == {partly: Reached(0, 0)}
        assert reached(unit, ACCOUNT, []) == {}
