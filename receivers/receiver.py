"""One endpoint's receiver: reads and verifies a request, and decides how it is treated."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from receivers.behavior import Behavior, BehaviorMix, Points
from receivers.signatures import is_signed


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What is recorded of one request.

    `event_id` is the header `X-LoyalPro-Event-Id`, `webhook_id` the header `webhook-id`; they must be equal. A header that
    is missing is an empty string; an attempt that is no number is 0. `signed`: whether both signatures are valid.
    """

    delivery_id: str
    event_id: str
    webhook_id: str
    attempt: int
    body: bytes
    signed: bool

    @property
    def sha256(self) -> str:
        """Of the body, in hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Outage:
    """A receiver shows one behavior only, from `begin_s` until before `end_s`."""

    begin_s: float
    end_s: float
    behavior: Behavior


@dataclass(kw_only=True)
class Receiver:
    """The receiver of one endpoint. Once `healed` is set it accepts every request."""

    secret: str
    points: Points
    mix: BehaviorMix = field(default_factory=BehaviorMix)
    outages: list[Outage] = field(default_factory=list)
    healed: bool = False

    def read(self, headers: Mapping[str, str], body: bytes) -> WebhookRequest:
        """A request from its headers (names in any case) and its body."""
        lower = {name.lower(): value for name, value in headers.items()}
        attempt = lower.get("x-loyalpro-attempt", "")
        return WebhookRequest(
            delivery_id=lower.get("x-loyalpro-delivery-id", ""),
            event_id=lower.get("x-loyalpro-event-id", ""),
            webhook_id=lower.get("webhook-id", ""),
            attempt=int(attempt) if attempt.isdecimal() else 0,
            body=body,
            signed=is_signed(self.secret, lower, body),
        )

    def behavior(self, request: WebhookRequest, now_s: float) -> Behavior:
        """How a request that arrives at `now_s` (in the time of the outages) is treated."""
        if self.healed:
            return Behavior.ACCEPT
        for outage in self.outages:
            if outage.begin_s <= now_s < outage.end_s:
                return outage.behavior
        return self.mix.choose(request.event_id, request.delivery_id, request.attempt, self.points)
