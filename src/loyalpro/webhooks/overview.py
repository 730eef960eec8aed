"""How the endpoints of an account are: the state of each, why, and what waits for it. Those that need a person come first."""

from collections.abc import Sequence
from typing import Final, Literal

from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import DeliveryRef, ListDeliveries, list_deliveries, retry_delivery
from loyalpro.webhooks.endpoints import EndpointDetails, EndpointRef, ListEndpoints, get_endpoint, list_endpoints
from loyalpro.webhooks.entities import Delivery, Secret
from loyalpro.webhooks.health import delivered_per_s
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.rotation import list_secrets

State = Literal["failing", "probing", "recovering", "paused", "disabled", "healthy"]
"""The state of an endpoint in one word. `probing`: one delivery at a time is sent, until one is accepted."""

MOST_LISTED: Final = 1_000
MOST_COUNTED_IN_LIST: Final = 1_000
MOST_COUNTED: Final = 10_000
GIVEN_UP_DAYS: Final = 30
_MOST_LOOKED_AT: Final = 5_000
_LATEST: Final = 10
_NEED: Final[Sequence[State]] = ("probing", "failing", "recovering", "paused", "disabled", "healthy")


@record
class EndpointState:
    """An endpoint with its state and how many deliveries wait for it. One more than the limit of the count stands for more."""

    details: EndpointDetails
    state: State
    waiting: int

    @property
    def name(self) -> str:
        """What people call it: its description, or the host and path of its URL."""
        return self.details.endpoint.description or self.details.endpoint.url.removeprefix("https://")

    @property
    def failing_since(self) -> UnixMs | None:
        """The time of the first of its failures since it was accepted last."""
        return self.details.health.failing_since


@record
class EndpointOverview:
    """One endpoint with its latest deliveries, newest first, and its valid secrets, newest first.

    `oldest_waiting`: when the oldest delivery that waits was made. `given_up`: how many were exhausted in 30 days; one more
    than the limit of the count stands for more. `per_s`: deliveries a second since it answers again, while it recovers.
    """

    found: EndpointState
    latest: Sequence[Delivery]
    secrets: Sequence[Secret]
    oldest_waiting: UnixMs | None
    given_up: int
    per_s: float | None

    @property
    def caught_up_in_ms(self) -> int | None:
        """In how many milliseconds nothing waits any more at the present rate, while it recovers; None if it is unknown."""
        return round(self.found.waiting / self.per_s * MS_PER_S) if self.per_s else None


def list_by_need(unit: WebhooksUnit, account_id: str) -> list[EndpointState]:
    """The endpoints of an account, at most `MOST_LISTED`: those that need a person first, then by name."""
    details = list_endpoints(unit, ListEndpoints(account_id, None, MOST_LISTED))
    waiting = unit.deliveries.waiting([each.endpoint.id for each in details], MOST_COUNTED_IN_LIST + 1)
    found = [EndpointState(each, state_of(each), waiting.get(each.endpoint.id, 0)) for each in details]
    return sorted(found, key=lambda each: (_NEED.index(each.state), each.name.casefold(), each.details.endpoint.id))


@record
class AccountOverview:
    """The endpoints of an account, those that need a person first, and how many of its deliveries were given up.

    `exhausted` is counted up to `MOST_COUNTED` and one more.
    """

    endpoints: Sequence[EndpointState]
    exhausted: int


def get_account_overview(unit: WebhooksUnit, account_id: str) -> AccountOverview:
    """How the endpoints of an account are, and what was given up."""
    return AccountOverview(
        list_by_need(unit, account_id), unit.deliveries.count_exhausted(account_id, MOST_COUNTED + 1)
    )


def get_overview(unit: WebhooksUnit, query: EndpointRef) -> EndpointOverview:
    """One endpoint and what happened there last."""
    details = get_endpoint(unit, query)
    waiting = unit.deliveries.waiting([query.endpoint_id], MOST_COUNTED + 1)
    latest = list_deliveries(unit, ListDeliveries(query.account_id, None, _LATEST, endpoint_id=query.endpoint_id))
    found = EndpointState(details, state_of(details), waiting.get(query.endpoint_id, 0))
    recovered_at = details.health.recovered_at if found.state == "recovering" else None
    return EndpointOverview(
        found,
        latest,
        list_secrets(unit, query),
        oldest_waiting=unit.deliveries.oldest_waiting(query.endpoint_id, _MOST_LOOKED_AT) if found.waiting else None,
        given_up=unit.deliveries.given_up(query.endpoint_id, unit.now - GIVEN_UP_DAYS * MS_PER_DAY, MOST_COUNTED + 1),
        per_s=None if recovered_at is None else delivered_per_s(unit, query.endpoint_id, recovered_at),
    )


def try_now(unit: WebhooksUnit, command: EndpointRef) -> Delivery:
    """Make one attempt of the latest delivery that waits for an endpoint, even while it is held back because it fails.

    Raises `Conflict` `nothing_waits` when no delivery waits.
    """
    query = ListDeliveries(command.account_id, None, 1, endpoint_id=command.endpoint_id, status="pending")
    waiting = list_deliveries(unit, query)
    if not waiting:
        raise Conflict("No delivery waits for this endpoint. Send a test event instead.", code="nothing_waits")
    return retry_delivery(unit, DeliveryRef(command.account_id, waiting[0].id))


def state_of(details: EndpointDetails) -> State:
    """The state of an endpoint. What its owner has stopped is not failing."""
    match details.endpoint.status:
        case EndpointStatus.PAUSED:
            return "paused"
        case EndpointStatus.DISABLED:
            return "disabled"
    match details.health.state:
        case "open":
            return "probing"
        case "failing":
            return "failing"
        case "recovering":
            return "recovering"
    return "healthy"
