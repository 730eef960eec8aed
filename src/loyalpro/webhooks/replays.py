"""Replays: jobs that send a range of an account's past events to one endpoint, again or for the first time.

A replay processes the events in the order of their commits, one page in each database transaction. The transaction locks
the replay, makes deliveries due, and moves the cursor. So a crash between two pages skips no event and sends none twice.
"""

from collections.abc import Sequence
from typing import Final

from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.ids import delivery_id
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.webhooks.endpoints import existing_endpoint
from loyalpro.webhooks.entities import ALL_TYPES, Endpoint, PastEvent, Replay
from loyalpro.webhooks.event_types import checked_types
from loyalpro.webhooks.ports import WebhooksUnit

REPLAYS: Final = JobKind("replays")
MISSING: Final = "missing"
"""The status of an event that the endpoint has no delivery of."""
STATUSES: Final = ("succeeded", "exhausted", "canceled", MISSING)
_EVERY_S: Final = 1.0


@record
class StartReplay:
    """Which events to send to an endpoint, by their time, their type, and the status of their delivery.

    `until` is now at the latest, also when it is None. `types`: None for those that the endpoint is subscribed to.
    `statuses`: some of `STATUSES`; None for all of them.
    """

    account_id: str
    endpoint_id: str
    since: UnixMs
    until: UnixMs | None = None
    types: Sequence[str] | None = None
    statuses: Sequence[str] | None = None


@record
class ReplayRef:
    """Names one replay of an endpoint."""

    account_id: str
    endpoint_id: str
    replay_id: str


@record
class ListReplays:
    """A page of an endpoint's replays: those older than `before_id`."""

    account_id: str
    endpoint_id: str
    before_id: str | None
    limit: int


@record
class ReplayProgress:
    """A replay, and about how many events it will have examined in the end."""

    replay: Replay
    estimated_total: int


def start_replay(unit: WebhooksUnit, command: StartReplay) -> ReplayProgress:
    """Store a replay and wake the job that works on it. Every delivery that becomes due gets a new window of 72 hours."""
    replay = _replay(unit, command)
    unit.replays.insert(replay)
    unit.audit(command.account_id, "replay.started", replay.id)
    unit.wake_job(REPLAYS)
    return get_replay(unit, ReplayRef(command.account_id, replay.endpoint_id, replay.id))


def estimate_replay(unit: WebhooksUnit, command: StartReplay) -> int:
    """About how many events a replay would examine; exact below 5,000. Starts nothing; has the errors of `start_replay`."""
    return unit.replays.estimated_range(_replay(unit, command))


def cancel_replay(unit: WebhooksUnit, command: ReplayRef) -> ReplayProgress:
    """Stop a replay. Deliveries that it has made due stay due."""
    _existing(unit, command)
    unit.replays.finish(command.replay_id, "canceled", unit.now)
    progress = get_replay(unit, command)
    if progress.replay.status != "canceled":
        raise Conflict("This replay is done, so it cannot be canceled.", code="replay_finished")
    unit.audit(command.account_id, "replay.canceled", command.replay_id)
    return progress


def get_replay(unit: WebhooksUnit, query: ReplayRef) -> ReplayProgress:
    """One replay and its progress."""
    return _progress(unit, _existing(unit, query))


def list_replays(unit: WebhooksUnit, query: ListReplays) -> list[ReplayProgress]:
    """An endpoint's replays, newest first."""
    endpoint = existing_endpoint(unit, query.account_id, query.endpoint_id)
    return [_progress(unit, each) for each in unit.replays.list_before(endpoint.id, query.before_id, query.limit)]


def continue_replay(unit: WebhooksUnit, replay_id: str) -> Piece:
    """Work on the next page of a replay, unless another process does; how many deliveries became due."""
    replay = unit.replays.lock_running(replay_id)
    if replay is None:
        return Piece(items=0)
    endpoint = unit.endpoints.get(replay.account_id, replay.endpoint_id, lock=True)
    if endpoint is None:
        unit.replays.finish(replay.id, "canceled", unit.now)
        return Piece(items=0)
    page = unit.replays.next_events(replay, BATCH_SIZE)
    replayed = _make_due(unit, replay, endpoint, page.events)
    unit.replays.advance(replay, page, replayed)
    if page.is_last:
        unit.replays.finish(replay.id, "done", unit.now)
    if replayed:
        unit.wake_endpoints([endpoint.id])
    return Piece(items=replayed, more=len(page.events) == BATCH_SIZE)


class ReplayJob:
    """Works on all running replays in turn, one page of each at a time. Several processes may do so at once."""

    def __init__(self, runner: UnitOfWorkRunner[WebhooksUnit]) -> None:
        self._runner = runner

    def periodic(self) -> PeriodicJob:
        """The job; its interval finds replays that other processes have stored."""
        return PeriodicJob(REPLAYS, _EVERY_S, self.run_piece)

    async def run_piece(self, now: UnixMs) -> Piece:  # noqa: ARG002 - each page has the time of its own transaction
        """One page of every running replay."""
        items, more = 0, False
        for replay_id in await self._runner.read(lambda unit: unit.replays.running()):
            piece = await self._continue(replay_id)
            items, more = items + piece.items, more or piece.more
        return Piece(items, more)

    async def _continue(self, replay_id: str) -> Piece:
        return await self._runner.change(lambda unit: continue_replay(unit, replay_id), "delivery")


def _make_due(unit: WebhooksUnit, replay: Replay, endpoint: Endpoint, events: Sequence[PastEvent]) -> int:
    """Make the selected deliveries due, each customer's in the order of the events; their number."""
    wanted = [
        each
        for each in events
        if (replay.types is None or each.type in replay.types) and endpoint.takes(is_import=each.imported)
    ]
    kept = unit.events.hold_unerased([each.id for each in wanted])
    existing = unit.deliveries.existing({delivery_id(id_, endpoint.id) for id_ in kept})
    ended = [status for status in replay.statuses if status != MISSING]
    replayed = 0
    for event in sorted((each for each in wanted if each.id in kept), key=lambda each: each.sequence or 0):
        if delivery_id(event.id, endpoint.id) in existing:
            replayed += bool(ended) and unit.deliveries.renew(ended, event, endpoint, unit.now)
        elif MISSING in replay.statuses:
            unit.deliveries.enqueue_past(event, endpoint, unit.now)
            replayed += 1
    return replayed


def _replay(unit: WebhooksUnit, command: StartReplay) -> Replay:
    """The replay that a command asks for. Raises `InvalidInput` for a range without time, and for types that do not exist."""
    types = None if command.types is None else checked_types(command.types, param="types")
    until = min(command.until or unit.now, unit.now)
    if command.since >= until:
        raise InvalidInput("since must be before until, and before now.", code="invalid_range", param="since")
    endpoint = existing_endpoint(unit, command.account_id, command.endpoint_id)
    wanted = types or endpoint.types
    return Replay(
        id=unit.ids.new("rpl"),
        account_id=command.account_id,
        endpoint_id=endpoint.id,
        since=command.since,
        until=until,
        types=None if ALL_TYPES in wanted else wanted,
        statuses=tuple(dict.fromkeys(command.statuses or STATUSES)),
        status="running",
        cursor="",
        examined=0,
        replayed=0,
        created_at=unit.now,
        finished_at=None,
    )


def _progress(unit: WebhooksUnit, replay: Replay) -> ReplayProgress:
    return ReplayProgress(replay, unit.replays.estimated_total(replay))


def _existing(unit: WebhooksUnit, query: ReplayRef) -> Replay:
    replay = unit.replays.get(query.account_id, query.endpoint_id, query.replay_id)
    if replay is None:
        raise NotFound(f"The endpoint {query.endpoint_id} has no replay {query.replay_id}.", param="replay_id")
    return replay
