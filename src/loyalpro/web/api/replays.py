"""`/v1/webhook_endpoints/{id}/replay`: jobs that send a range of past events, again or for the first time."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BeforeValidator, ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.web.answers import Count, EndpointId, Page, ReplayId, Time, answers
from loyalpro.web.api.webhook_endpoints import Types
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Body, Cursor, Instant, Limit, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.webhooks import replays

router = APIRouter(
    prefix="/v1/webhook_endpoints", tags=["webhook endpoints"], route_class=StrictRoute.needing(write="webhooks")
)


class ReplayView(TypedDict):
    """A replay and its progress."""

    id: ReplayId
    endpoint_id: EndpointId
    status: str
    since: Time
    until: Time
    types: list[str]
    delivery_statuses: list[str]
    examined: Count
    estimated_total: Count
    replayed: Count
    created_at: Time
    finished_at: Time | None


class EstimateView(TypedDict):
    """About how many events a replay would examine."""

    since: Time
    until: Time
    estimated_total: Count


Status = Literal["succeeded", "exhausted", "canceled", "missing"]
Statuses = Annotated[
    list[Status],
    Field(min_length=1, max_length=4),
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Status | Annotated[list[Status], Field(min_length=1, max_length=4)],
    ),
]


class StartReplay(Body):
    """Which events to send, by their time, their type, and the status of their delivery to the endpoint."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"since": "2026-11-28T00:00:00Z", "types": ["points.earned"]}]}
    )

    since: Instant
    until: Instant | None = None
    types: Types | None = None
    status: Annotated[
        Statuses | None,
        Field(description="The status of the delivery, or `missing` when there is none. Left out: all of these."),
    ] = None


@router.post(
    "/{endpoint_id}/replay",
    status_code=202,
    summary="Send past events to an endpoint",
    responses=answers(ReplayView, 202),
)
async def start(request: Request, account_id: AccountId, endpoint_id: str, body: StartReplay) -> Response:
    """Each delivery gets a new window of 72 hours. Pending ones stay as they are. The response is a job; read it to follow it.

    `until` is now at the latest. Without `types`, events of the types that the endpoint is subscribed to are sent.
    """
    command = _command(account_id, endpoint_id, body)
    return await commit(request, account_id, lambda unit: Reply(202, replay_view(replays.start_replay(unit, command))))


@router.post("/{endpoint_id}/replay/estimate", summary="Estimate a replay")
async def estimate(account_id: AccountId, services: ServicesDep, endpoint_id: str, body: StartReplay) -> EstimateView:
    """About how many events are in the range, whatever their types; exact below 5,000. Nothing is started or stored."""
    command = _command(account_id, endpoint_id, body)
    now = services.clock.now_ms()
    count = await services.runner.read(lambda unit: replays.estimate_replay(unit, command))
    return {
        "since": rfc3339(command.since),
        "until": rfc3339(min(command.until or now, now)),
        "estimated_total": count,
    }


@router.get("/{endpoint_id}/replays", summary="List an endpoint's replays, newest first")
async def list_replays(
    account_id: AccountId, services: ServicesDep, endpoint_id: str, limit: Limit = 20, cursor: Cursor = None
) -> Page[ReplayView]:
    """One page of jobs with their progress."""
    before_id = known_id("rpl", cursor, param="cursor") if cursor else None
    query = replays.ListReplays(account_id, known_id("we", endpoint_id), before_id, limit + 1)
    found = await services.runner.read(lambda unit: replays.list_replays(unit, query))
    return page([replay_view(each) for each in found], limit)


@router.get("/{endpoint_id}/replays/{replay_id}", summary="Get a replay and its progress")
async def get(account_id: AccountId, services: ServicesDep, endpoint_id: str, replay_id: str) -> ReplayView:
    """One job. Of about `estimated_total` events, `examined` have been examined, and `replayed` of those have become due."""
    query = _ref(account_id, endpoint_id, replay_id)
    return replay_view(await services.runner.read(lambda unit: replays.get_replay(unit, query)))


@router.post("/{endpoint_id}/replays/{replay_id}/cancel", summary="Cancel a replay", responses=answers(ReplayView))
async def cancel(request: Request, account_id: AccountId, endpoint_id: str, replay_id: str) -> Response:
    """Stops the job. Deliveries that it has made due already are sent."""
    command = _ref(account_id, endpoint_id, replay_id)
    return await commit(
        request, account_id, lambda unit: Reply(200, replay_view(replays.cancel_replay(unit, command))), "control"
    )


def replay_view(progress: replays.ReplayProgress) -> ReplayView:
    """A replay and its progress in JSON."""
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


def _command(account_id: str, endpoint_id: str, body: StartReplay) -> replays.StartReplay:
    return replays.StartReplay(account_id, known_id("we", endpoint_id), body.since, body.until, body.types, body.status)


def _ref(account_id: str, endpoint_id: str, replay_id: str) -> replays.ReplayRef:
    return replays.ReplayRef(account_id, known_id("we", endpoint_id), known_id("rpl", replay_id, param="replay_id"))
