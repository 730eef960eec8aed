"""How the endpoints of an account are: the state of each, why, and what waits for it. Those that need a person come first."""

from collections.abc import Sequence
from typing import Final, Literal

from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.webhooks.deliveries import ListDeliveries, list_deliveries
from loyalpro.webhooks.endpoints import EndpointDetails, EndpointRef, ListEndpoints, get_endpoint, list_endpoints
from loyalpro.webhooks.entities import Delivery, Secret
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.rotation import list_secrets

State = Literal["failing", "probing", "recovering", "paused", "disabled", "healthy"]
"""The state of an endpoint in one word. `probing`: one delivery at a time is sent, until one is accepted."""

MOST_LISTED: Final = 1_000
MOST_COUNTED_IN_LIST: Final = 1_000
MOST_COUNTED: Final = 10_000
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
    """One endpoint with its latest deliveries, newest first, and its valid secrets, newest first."""

    found: EndpointState
    latest: Sequence[Delivery]
    secrets: Sequence[Secret]


def list_by_need(unit: WebhooksUnit, account_id: str) -> list[EndpointState]:
    """The endpoints of an account, at most `MOST_LISTED`: those that need a person first, then by name."""
    details = list_endpoints(unit, ListEndpoints(account_id, None, MOST_LISTED))
    waiting = unit.deliveries.waiting([each.endpoint.id for each in details], MOST_COUNTED_IN_LIST + 1)
    found = [EndpointState(each, state_of(each), waiting.get(each.endpoint.id, 0)) for each in details]
    return sorted(found, key=lambda each: (_NEED.index(each.state), each.name.casefold(), each.details.endpoint.id))


def get_overview(unit: WebhooksUnit, query: EndpointRef) -> EndpointOverview:
    """One endpoint and what happened there last."""
    details = get_endpoint(unit, query)
    waiting = unit.deliveries.waiting([query.endpoint_id], MOST_COUNTED + 1)
    latest = list_deliveries(unit, ListDeliveries(query.account_id, None, _LATEST, endpoint_id=query.endpoint_id))
    found = EndpointState(details, state_of(details), waiting.get(query.endpoint_id, 0))
    return EndpointOverview(found, latest, list_secrets(unit, query))


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
