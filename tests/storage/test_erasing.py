"""An erasure of an event while a delivery of it is made due again: the event is sent unchanged, or not at all."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.replays import ReplayTables
from loyalpro.webhooks.entities import Replay
from loyalpro.webhooks.replays import continue_replay
from support.databases import Databases
from support.erasing import begin_erasure, erase_piece
from support.history import ACCOUNT, History, query, transaction
from support.rivals import at_once
from support.units import unit_on


@dataclass(frozen=True)
class World:
    """A deleted customer with an event that was delivered once."""

    url: str
    now: int
    endpoint: str
    customer: str
    event: str
    replay: str

    def erase(self, connection: Connection) -> None:
        erase_piece(connection, self.customer, self.now)

    def resend(self, connection: Connection) -> None:
        unit = unit_on(connection)
        event = unit.events.hold(ACCOUNT, self.event)
        endpoint = unit.endpoints.get(ACCOUNT, self.endpoint, lock=True)
        assert event is not None
        assert endpoint is not None
        if not event.erased:
            unit.deliveries.renew(["succeeded"], event, endpoint, self.now)

    def retry(self, connection: Connection) -> None:
        deliveries = unit_on(connection).deliveries
        snapshot = deliveries.lock(ACCOUNT, delivery_id(self.event, self.endpoint))
        assert snapshot is not None
        if snapshot.event_kept:
            deliveries.make_due(snapshot, self.now)

    def continue_replay(self, connection: Connection) -> None:
        continue_replay(unit_on(connection), self.replay)


@pytest.fixture
def world(databases: Databases) -> World:
    now = SystemClock().now_ms()
    history = History(databases.fresh("postgres"), now)
    endpoint, customer, replay = history.endpoint(), history.ids.new("cus"), history.ids.new("rpl")
    [event] = history.events(endpoint, 1, at=now - 1_000, customer_id=customer, body=lambda _: b'{"data":{"name":"A"}}')
    job = Replay(replay, ACCOUNT, endpoint, 0, now, None, ("succeeded",), "running", "", 0, 0, now, None)
    with transaction(history.url) as connection:
        ReplayTables(connection).insert(job)
        begin_erasure(connection, ACCOUNT, customer, 1, now)
    return World(history.url, now, endpoint, customer, event, replay)


MakeDue = Callable[[World, Connection], None]


@pytest.mark.parametrize("make_due", [World.resend, World.retry, World.continue_replay])
@pytest.mark.parametrize("erased_first", [True, False])
def test_an_event_that_is_erased_while_a_delivery_of_it_is_made_due_is_not_sent(
    world: World, make_due: MakeDue, *, erased_first: bool
) -> None:
    def resend(connection: Connection) -> None:
        make_due(world, connection)

    at_once(world.url, *((world.erase, resend) if erased_first else (resend, world.erase)))
    with transaction(world.url) as connection:
        world.erase(connection)
    assert query(world.url, "SELECT COUNT(*) FROM events WHERE erased_at IS NOT NULL") == [(1,)]
    assert query(world.url, "SELECT COUNT(*) FROM deliveries WHERE status = 'pending'") == [(0,)]
    assert query(world.url, "SELECT status FROM deliveries") in ([("succeeded",)], [("canceled",)])
