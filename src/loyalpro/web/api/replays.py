"""`/v1/webhook_endpoints/{id}/replay`: a range of past events, sent again or for the first time, as a job."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.storage.replay_store import DUTY
from loyalpro.storage.tables.replays import STATUSES, Replay
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.web.api.fields import Body, Cursor, Instant, Limit, known_id, page
from loyalpro.web.api.webhook_endpoints import Types, checked_types, existing
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import AccountId, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhook endpoints"], route_class=StrictRoute)

Status = Literal["succeeded", "exhausted", "canceled", "missing"]
Statuses = Annotated[
    list[Status],
    Field(min_length=1),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Status | Annotated[list[Status], Field(min_length=1)],
    ),
]


class StartReplay(Body):
    """Which events to send, by the time they happened, their type, and what became of them before."""

    since: Instant
    until: Instant | None = None
    types: Types | None = None
    status: Annotated[
        Statuses | None,
        Field(description="What they had ended as, or `missing`: never owed to this endpoint. Left out: all of these."),
    ] = None


@router.post("/{endpoint_id}/replay", status_code=202, summary="Send past events to an endpoint")
async def start(
    request: Request, account_id: AccountId, services: ServicesDep, endpoint_id: str, body: StartReplay
) -> Response:
    """Each gets a fresh window of 72 hours. What is pending is left as it is. Answers with a job; read it to see it work.

    `until` is now at the latest. Types are what the endpoint is subscribed to, unless they are named.
    """
    types = checked_types(body.types, param="types") if body.types else None
    until = min(body.until or services.clock.now_ms(), services.clock.now_ms())
    if body.since >= until:
        raise InvalidInput("since must be before until, and before now.", code="invalid_range", param="since")

    def work(unit: UnitOfWork) -> Reply:
        endpoint = existing(unit, account_id, endpoint_id)
        replay = _replay(unit, account_id, endpoint.id, types or endpoint.types, (body.since, until), body.status)
        unit.replays.insert(replay)
        return Reply(202, _shown(unit, replay.account_id, endpoint.id, replay.id))

    response = await commit(request, account_id, work)
    services.wake_duty(DUTY)
    return response


@router.get("/{endpoint_id}/replays", summary="List an endpoint's replays, newest first")
async def list_replays(
    account_id: AccountId, services: ServicesDep, endpoint_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """One page of jobs, and how far they are."""
    before = known_id("rpl", cursor, param="cursor") if cursor else None

    def work(unit: UnitOfWork) -> list[dict[str, Any]]:
        endpoint = existing(unit, account_id, endpoint_id)
        return [_view(unit, each) for each in unit.replays.list_before(endpoint.id, before, limit + 1)]

    return page(await services.transactions.read(work), limit)


@router.get("/{endpoint_id}/replays/{replay_id}", summary="Get a replay and how far it is")
async def get(account_id: AccountId, services: ServicesDep, endpoint_id: str, replay_id: str) -> dict[str, Any]:
    """One job. `examined` of about `estimated_total` events have been looked at, and `replayed` of them made due."""
    return await services.transactions.read(lambda unit: _shown(unit, account_id, endpoint_id, replay_id))


@router.post("/{endpoint_id}/replays/{replay_id}/cancel", summary="Cancel a replay")
async def cancel(request: Request, account_id: AccountId, endpoint_id: str, replay_id: str) -> Response:
    """It goes no further. What it has made due already is delivered."""

    def work(unit: UnitOfWork) -> Reply:
        replay = _existing_replay(unit, account_id, endpoint_id, replay_id)
        unit.replays.cancel(replay.id, unit.now)
        shown = _shown(unit, account_id, endpoint_id, replay_id)
        if shown["status"] != "canceled":
            raise Conflict("This replay is done; there is nothing left to cancel.", code="replay_finished")
        return Reply(200, shown)

    return await commit(request, account_id, work, lane="control")


def _replay(
    unit: UnitOfWork,
    account_id: str,
    endpoint_id: str,
    types: tuple[str, ...],
    between: tuple[UnixMs, UnixMs],
    statuses: list[Status] | None,
) -> Replay:
    return Replay(
        id=unit.ids.new("rpl"),
        account_id=account_id,
        endpoint_id=endpoint_id,
        since=between[0],
        until=between[1],
        types=None if "*" in types else types,
        statuses=tuple(dict.fromkeys(statuses or STATUSES)),
        status="running",
        cursor="",
        examined=0,
        replayed=0,
        created_at=unit.now,
        finished_at=None,
    )


def _existing_replay(unit: UnitOfWork, account_id: str, endpoint_id: str, replay_id: str) -> Replay:
    replay = unit.replays.get(account_id, known_id("we", endpoint_id), known_id("rpl", replay_id, param="replay_id"))
    if replay is None:
        raise NotFound(f"The endpoint {endpoint_id} has no replay {replay_id}.", param="replay_id")
    return replay


def _shown(unit: UnitOfWork, account_id: str, endpoint_id: str, replay_id: str) -> dict[str, Any]:
    return _view(unit, _existing_replay(unit, account_id, endpoint_id, replay_id))


def _view(unit: UnitOfWork, replay: Replay) -> dict[str, Any]:
    return {
        "id": replay.id,
        "endpoint_id": replay.endpoint_id,
        "status": replay.status,
        "since": rfc3339(replay.since),
        "until": rfc3339(replay.until),
        "types": ["*"] if replay.types is None else list(replay.types),
        "delivery_statuses": list(replay.statuses),
        "examined": replay.examined,
        "estimated_total": unit.replays.estimated_total(replay),
        "replayed": replay.replayed,
        "created_at": rfc3339(replay.created_at),
        "finished_at": None if replay.finished_at is None else rfc3339(replay.finished_at),
    }
