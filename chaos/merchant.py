"""The merchant: adds endpoints and customers, and adds, pauses and deletes endpoints while faults happen."""

import time
from collections.abc import Sequence

from chaos.client import Client, Refusal, until_clear
from chaos.journal import Journal, now_ms
from chaos.receiver import ReceiverProcess
from receivers.behavior import Behavior, BehaviorMix

EVERYTHING = ("*",)
STEADY = BehaviorMix()
_ERRORS = BehaviorMix({Behavior.SERVER_ERROR: 0.05, Behavior.UNAVAILABLE: 0.02})
_RESETS = BehaviorMix({Behavior.LOST_ACCEPT: 0.02, Behavior.CUT_ACCEPT: 0.01})
_HANGS = BehaviorMix({Behavior.SILENT_ACCEPT: 0.003, Behavior.SLOW_ACCEPT: 0.02})
_REJECTIONS = BehaviorMix({Behavior.SERVER_ERROR: 0.02}, rejected_events=0.004)
FirstEndpoint = tuple[str, BehaviorMix, tuple[str, ...], str]
"""A name, the behavior of its receiver, its event types, and its ordering."""
FIRST_ENDPOINTS: tuple[FirstEndpoint, ...] = (
    ("steady", STEADY, EVERYTHING, "none"),
    ("ordered", STEADY, EVERYTHING, "customer"),
    ("errors", _ERRORS, EVERYTHING, "none"),
    ("resets", _RESETS, EVERYTHING, "none"),
    ("hangs", _HANGS, EVERYTHING, "none"),
    ("outage", STEADY, EVERYTHING, "none"),
    ("rejections", _REJECTIONS, ("points.earned", "transaction.completed"), "none"),
    ("leaver", STEADY, EVERYTHING, "none"),
)
BEHIND_NGINX = tuple(each for each in FIRST_ENDPOINTS if each[0] not in {"resets", "hangs", "outage"})
"""Those that never break a connection."""
_PAUSE_S = 3.0


class Enrollment:
    """Enrolls customers one by one. After an unknown answer the request is repeated with the same key."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._count = 0
        self._began_ms: float | None = None

    def attempt(self, journal: Journal) -> str:
        """Enroll the next customer with one request; returns its id, or raises `Unknown`."""
        self._began_ms = self._began_ms or now_ms()
        key = f"{self._name}-{self._count}"
        customer_id = str(self._client.call("POST", "/v1/customers", {"name": key}, key).body["id"])
        journal.write("enrolled", began=self._began_ms, customer=customer_id)
        self._count += 1
        self._began_ms = None
        return customer_id

    def insist(self, journal: Journal) -> str:
        """Enroll the next customer, and repeat the request until the answer is clear."""
        return until_clear(lambda: self.attempt(journal))


class Merchant:
    """Records each change with the times before and after it; it may have been committed at any time in between."""

    def __init__(self, client: Client, receiver: ReceiverProcess, journal: Journal) -> None:
        self._client = client
        self._receiver = receiver
        self._journal = journal
        self._ids: dict[str, str] = {}

    def subscribe(self, name: str, mix: BehaviorMix, types: Sequence[str] = EVERYTHING, ordering: str = "none") -> None:
        """Add an endpoint. It starts paused, so that the receiver knows its secret before the first request."""
        url = self._receiver.open(name, mix)
        body = {"url": url, "events": list(types), "ordering": ordering, "status": "paused"}
        began = now_ms()
        made = self._client.insist("POST", "/v1/webhook_endpoints", body, key=f"subscribe-{name}").body
        self._journal.write(
            "subscribed", began=began, endpoint=made["id"], name=name, types=list(types), ordering=ordering
        )
        self._ids[name] = made["id"]
        self._receiver.trust(name, made["id"], made["secret"])
        self._set_status(name, "enabled")

    def enroll(self, count: int) -> tuple[str, ...]:
        """Enroll customers; returns their ids."""
        enrollment = Enrollment(self._client, "first")
        return tuple(enrollment.insist(self._journal) for _ in range(count))

    def pause(self, name: str) -> None:
        """Pause an endpoint for some seconds."""
        self._set_status(name, "paused")
        time.sleep(_PAUSE_S)
        self._set_status(name, "enabled")

    def unsubscribe(self, name: str) -> None:
        """Delete an endpoint; its pending deliveries are canceled."""
        began = now_ms()
        try:
            self._client.insist("DELETE", f"/v1/webhook_endpoints/{self._ids[name]}")
        except Refusal as refusal:
            if " 404 " not in str(refusal):
                raise  # 404: an earlier request, whose answer was lost, has deleted it
        self._journal.write("unsubscribed", began=began, endpoint=self._ids[name])

    def pending(self) -> bool:
        """Whether any delivery is pending."""
        return bool(self._client.insist("GET", "/v1/deliveries?status=pending&limit=1").body["data"])

    def _set_status(self, name: str, status: str) -> None:
        self._client.insist("PATCH", f"/v1/webhook_endpoints/{self._ids[name]}", {"status": status})
