"""The job that cancels pending deliveries of deleted endpoints, piece by piece."""

from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.tables.maintenance import MaintenanceTables
from support.history import History, query, transaction

NOW = 1_763_980_200_000


def being_sent(history: History, endpoint: str, events: list[str]) -> None:
    """Store leases: these deliveries are being sent."""
    for event in events:
        query(
            history.url,
            "INSERT INTO leases (delivery_id, worker, endpoint_id, attempt, started_at) VALUES (?, 'wrk_1', ?, 1, ?)",
            *(delivery_id(event, endpoint), endpoint, NOW),
        )


def delete(history: History, *endpoints: str) -> None:
    for endpoint in endpoints:
        query(history.url, "UPDATE endpoints SET deleted_at = ? WHERE id = ?", NOW, endpoint)


def cancel_of_deleted(url: str) -> bool:
    with transaction(url) as connection:
        return MaintenanceTables(connection).cancel_of_deleted_endpoint(NOW, 200) > 0


def statuses(url: str, endpoint: str) -> list[str]:
    rows = query(url, "SELECT status FROM deliveries WHERE endpoint_id = ? ORDER BY id", endpoint)
    return [status for (status,) in rows]


def test_pending_deliveries_of_a_deleted_endpoint_are_canceled_but_not_while_they_are_sent(database_url: str) -> None:
    history = History(database_url, NOW)
    endpoint = history.endpoint()
    events = history.events(endpoint, 3, at=NOW, status="pending")
    being_sent(history, endpoint, events[:1])
    delete(history, endpoint)
    assert cancel_of_deleted(database_url), "there may be more to do"
    assert statuses(database_url, endpoint) == ["pending", "canceled", "canceled"]
    assert not cancel_of_deleted(database_url), "a delivery that is being sent is no reason to run again at once"
    query(database_url, "DELETE FROM leases")
    assert cancel_of_deleted(database_url)
    assert statuses(database_url, endpoint) == ["canceled"] * 3


def test_a_deleted_endpoint_whose_deliveries_are_all_being_sent_does_not_delay_another(database_url: str) -> None:
    history = History(database_url, NOW)
    busy, idle, *_ = sorted(history.endpoint() for _ in range(2))
    being_sent(history, busy, history.events(busy, 2, at=NOW, status="pending"))
    history.events(idle, 2, at=NOW, status="pending")
    delete(history, busy, idle)
    assert cancel_of_deleted(database_url)
    assert statuses(database_url, idle) == ["canceled"] * 2
    assert not cancel_of_deleted(database_url)
    assert statuses(database_url, busy) == ["pending"] * 2


def test_a_delivery_with_a_manual_attempt_gets_its_earlier_status_back(database_url: str) -> None:
    history = History(database_url, NOW)
    endpoint = history.endpoint()
    history.events(endpoint, 3, at=NOW, status="pending")
    [first, second, _] = query(database_url, "SELECT id FROM deliveries ORDER BY id")
    for (id_,), fallback in ((first, "succeeded"), (second, "pending")):
        query(database_url, "UPDATE deliveries SET fallback_status = ? WHERE id = ?", fallback, id_)
    delete(history, endpoint)
    assert cancel_of_deleted(database_url)
    assert statuses(database_url, endpoint) == ["succeeded", "canceled", "canceled"]
