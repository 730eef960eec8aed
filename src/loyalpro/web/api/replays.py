"""`/v1/webhook_endpoints/{id}/replay`: a range of past events, sent again or for the first time, as a job."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, Field

from loyalpro.kernel.clock import rfc3339
from loyalpro.web.api.fields import Body, Cursor, Instant, Limit, known_id, page
from loyalpro.web.api.webhook_endpoints import Types
from loyalpro.web.auth import AccountId
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.webhooks import replays

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
        Field(description="What they had ended as, or `missing`: never sent to this endpoint. Left out: all of these."),
    ] = None


@router.post("/{endpoint_id}/replay", status_code=202, summary="Send past events to an endpoint")
async def start(request: Request, account_id: AccountId, endpoint_id: str, body: StartReplay) -> Response:
    """Each gets a fresh window of 72 hours. What is pending is left as it is. Answers with a job; read it to see it work.

    `until` is now at the latest. Types are what the endpoint is subscribed to, unless they are named.
    """
    command = replays.StartReplay(
        account_id, known_id("we", endpoint_id), body.since, body.until, body.types, body.status
    )
    return await commit(request, account_id, lambda unit: Reply(202, replay_view(replays.start_replay(unit, command))))


@router.get("/{endpoint_id}/replays", summary="List an endpoint's replays, newest first")
async def list_replays(
    account_id: AccountId, services: ServicesDep, endpoint_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """One page of jobs, and how far they are."""
    before_id = known_id("rpl", cursor, param="cursor") if cursor else None
    query = replays.ListReplays(account_id, known_id("we", endpoint_id), before_id, limit + 1)
    found = await services.runner.read(lambda unit: replays.list_replays(unit, query))
    return page([replay_view(each) for each in found], limit)


@router.get("/{endpoint_id}/replays/{replay_id}", summary="Get a replay and how far it is")
async def get(account_id: AccountId, services: ServicesDep, endpoint_id: str, replay_id: str) -> dict[str, Any]:
    """One job. `examined` of about `estimated_total` events have been looked at, and `replayed` of them made due."""
    query = _ref(account_id, endpoint_id, replay_id)
    return replay_view(await services.runner.read(lambda unit: replays.get_replay(unit, query)))


@router.post("/{endpoint_id}/replays/{replay_id}/cancel", summary="Cancel a replay")
async def cancel(request: Request, account_id: AccountId, endpoint_id: str, replay_id: str) -> Response:
    """It goes no further. What it has made due already is delivered."""
    command = _ref(account_id, endpoint_id, replay_id)
    return await commit(
        request, account_id, lambda unit: Reply(200, replay_view(replays.cancel_replay(unit, command))), "control"
    )


def replay_view(progress: replays.ReplayProgress) -> dict[str, Any]:
    """A replay in JSON."""
    replay = progress.replay
    return {
        "id": replay.id,
        "endpoint_id": replay.endpoint_id,
        "status": replay.status,
        "since": rfc3339(replay.since),
        "until": rfc3339(replay.until),
        "types": ["*"] if replay.types is None else list(replay.types),
        "delivery_statuses": list(replay.statuses),
        "examined": replay.examined,
        "estimated_total": progress.estimated_total,
        "replayed": replay.replayed,
        "created_at": rfc3339(replay.created_at),
        "finished_at": None if replay.finished_at is None else rfc3339(replay.finished_at),
    }


def _ref(account_id: str, endpoint_id: str, replay_id: str) -> replays.ReplayRef:
    return replays.ReplayRef(account_id, known_id("we", endpoint_id), known_id("rpl", replay_id, param="replay_id"))
