"""Requests of a merchant in any order, over the API: deliveries, points and sequences stay right."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from loyalpro.kernel.ids import delivery_id
from support.databases import Databases
from support.receivers import Authority, RawServer, Responder
from support.server import Answer, Server

STATUSES = {"pending", "parked", "succeeded", "exhausted", "canceled"}
REFUSALS = {
    "delivery_in_flight", "delivery_waits_its_turn", "delivery_finished", "endpoint_not_enabled", "endpoint_deleted",
}  # fmt: skip
TYPES = (["*"], ["points.earned"], ["customer.created", "transaction.completed"])
_unique = itertools.count()


@dataclass
class Endpoint:
    id: str
    types: list[str]
    status: str = "enabled"

    def wants(self, type_: str) -> bool:
        return "*" in self.types or type_ in self.types


@dataclass
class Shop:
    """The model of the account: its endpoints, customers, events, and the deliveries that must exist."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    points: dict[str, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    expected: set[str] = field(default_factory=set)


class Everything(RuleBasedStateMachine):
    """One example. The server and its receivers outlive it; its endpoints and customers are its own."""

    server: ClassVar[Server]
    receivers: ClassVar[list[RawServer]]
    responders: ClassVar[list[Responder]]
    last_event: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.answered: dict[str, tuple[dict[str, Any], Any]] = {}

    # -- endpoints -----------------------------------------------------------------------------------------------------

    @rule(
        receiver=st.sampled_from((0, 1)), types=st.sampled_from(TYPES), ordering=st.sampled_from(("none", "customer"))
    )
    def add_endpoint(self, receiver: int, types: list[str], ordering: str) -> None:
        if len(self.shop.endpoints) < 4:
            body = {"url": self.receivers[receiver].url, "events": types, "ordering": ordering}
            made = self.server.post("/v1/webhook_endpoints", body)
            self.shop.endpoints[made["id"]] = Endpoint(made["id"], types)

    @precondition(lambda self: self.shop.endpoints)
    @rule(data=st.data(), status=st.sampled_from(("enabled", "enabled", "paused", "disabled")))
    def switch(self, data: st.DataObject, status: str) -> None:
        endpoint = self.draw_endpoint(data)
        view = self.server.call("PATCH", f"/v1/webhook_endpoints/{endpoint.id}", {"status": status})
        assert (view.status, view.json["status"]) == (200, status)
        endpoint.status = status

    @precondition(lambda self: self.shop.endpoints)
    @rule(data=st.data())
    def delete_endpoint(self, data: st.DataObject) -> None:
        endpoint = self.draw_endpoint(data)
        assert self.server.call("DELETE", f"/v1/webhook_endpoints/{endpoint.id}").status == 204
        del self.shop.endpoints[endpoint.id]
        self.shop.deleted.append(endpoint.id)

    @precondition(lambda self: self.shop.endpoints)
    @rule(data=st.data(), overlap=st.sampled_from((None, 0, 600)), promote=st.booleans())
    def rotate(self, data: st.DataObject, overlap: int | None, *, promote: bool) -> None:
        body = {"promote": promote} | ({} if overlap is None else {"overlap_seconds": overlap})
        path = f"/v1/webhook_endpoints/{self.draw_endpoint(data).id}"
        answer = self.server.call("POST", f"{path}/rotate_secret", body)
        assert answer.status == 200 or answer.json["code"] == ("no_rotation" if promote else "too_many_secrets")
        if answer.status == 200:
            assert self.server.get(f"{path}/secret")["secret"] == answer.json["secret"]

    @initialize(ordering=st.sampled_from(("none", "customer")))
    def open(self, ordering: str) -> None:
        self.add_endpoint(0, ["*"], ordering)
        self.enroll()

    # -- the shop ------------------------------------------------------------------------------------------------------

    @rule()
    def enroll(self) -> None:
        self.shop.points[self.server.post("/v1/customers", {})["id"]] = 0
        self.note_events(1)

    @precondition(lambda self: self.shop.points)
    @rule(data=st.data(), amount=st.integers(1, 500).map(lambda euros: euros * 100))
    def buy(self, data: st.DataObject, amount: int) -> None:
        customer = self.draw_customer(data)
        key = f"key-{next(_unique)}"
        body = {"customer_id": customer, "amount": amount, "currency": "EUR", "external_id": f"order-{next(_unique)}"}
        answer = self.server.post("/v1/transactions", body, Idempotency_Key=key)
        self.answered[key] = (body, answer)
        self.shop.points[customer] += amount // 100
        self.note_events(2)

    @precondition(lambda self: self.answered)
    @rule(data=st.data(), how=st.sampled_from(("key", "external_id", "conflicting key", "conflicting external_id")))
    def buy_again(self, data: st.DataObject, how: str) -> None:
        """A repeated request changes nothing; one that contradicts the first is refused."""
        key = data.draw(st.sampled_from(sorted(self.answered)))
        body, before = self.answered[key]
        sent = body | {"amount": 1} if "conflicting" in how else body
        headers = {"Idempotency_Key": key} if "key" in how else {}
        answer = self.server.call("POST", "/v1/transactions", sent, **headers)
        expected = {"key": 201, "external_id": 200, "conflicting key": 422, "conflicting external_id": 409}[how]
        assert answer.status == expected, answer.json
        assert "conflicting" in how or answer.json == before
        self.note_events(0)

    # -- manual --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.shop.events)
    @rule(data=st.data(), alone=st.booleans())
    def resend(self, data: st.DataObject, *, alone: bool) -> None:
        event = data.draw(st.sampled_from(self.shop.events))
        chosen = self.draw_endpoint(data) if alone and self.shop.endpoints else None
        answer = self.server.call(
            "POST", f"/v1/events/{event['id']}/resend", {"endpoint_id": chosen.id} if chosen else None
        )
        if answer.status != 202:
            assert chosen is not None
            assert answer.json["code"] in REFUSALS
            return
        enabled = [each for each in self.shop.endpoints.values() if each.status == "enabled"]
        targets = [chosen] if chosen else [each for each in enabled if each.wants(event["type"])]
        sent = {each["id"] for each in answer.json["data"]}
        assert sent == {delivery_id(event["id"], each.id) for each in targets}
        self.shop.expected |= sent

    @precondition(lambda self: self.shop.expected)
    @rule(data=st.data(), what=st.sampled_from(("retry", "cancel")))
    def move(self, data: st.DataObject, what: str) -> None:
        chosen = data.draw(st.sampled_from(sorted(self.shop.expected)))
        self.check_move(self.server.call("POST", f"/v1/deliveries/{chosen}/{what}"), what)

    def check_move(self, answer: Answer, what: str) -> None:
        if answer.status == 409:
            assert answer.json["code"] in REFUSALS
        elif what == "retry":
            assert (answer.status, answer.json["status"]) == (202, "pending")
        else:
            # A delivery that had ended before a manual attempt has that end again once the attempt is canceled.
            assert answer.status == 200
            assert answer.json["status"] in ("canceled", "succeeded", "exhausted")

    @precondition(lambda self: self.shop.endpoints and self.shop.events)
    @rule(data=st.data(), status=st.sampled_from((None, "missing", ["exhausted", "canceled"])))
    def replay(self, data: st.DataObject, status: Any) -> None:
        endpoint = self.draw_endpoint(data)
        body = {"since": self.shop.events[0]["created_at"]} | ({} if status is None else {"status": status})
        path = f"/v1/webhook_endpoints/{endpoint.id}/replay"
        job = self.server.call("POST", path, body)
        if job.status == 422:
            assert job.json["code"] == "invalid_range"  # its first event happened in this very millisecond
            return
        path = f"{path}s/{job.json['id']}"
        done = self.server.until(path, lambda each: each["status"] == "done")
        assert done["replayed"] <= done["examined"] == done["estimated_total"]
        if status in (None, "missing"):
            taken_in = [each for each in self.shop.events if each["created_at"] <= done["until"]]
            wanted = {delivery_id(each["id"], endpoint.id) for each in taken_in if endpoint.wants(each["type"])}
            assert len(wanted - self.shop.expected) <= done["replayed"]
            self.shop.expected |= wanted

    @rule(receiver=st.sampled_from((0, 1)), status=st.sampled_from((200, 200, 500, 429, 302)))
    def change_mood(self, receiver: int, status: int) -> None:
        self.responders[receiver].status = status

    # -- invariants ----------------------------------------------------------------------------------------------------

    def note_events(self, count: int) -> None:
        """The events of a change have deliveries to each endpoint that was subscribed when it was committed."""
        after = f"&after={Everything.last_event}" if Everything.last_event else ""
        page = self.server.until(f"/v1/events?limit=100{after}", lambda page: len(page["data"]) >= count)
        new = page["data"]
        assert len(new) == count
        for event in new:
            Everything.last_event = event["id"]
            wanting = [each for each in self.shop.endpoints.values() if each.wants(event["type"])]
            self.shop.expected |= {delivery_id(event["id"], each.id) for each in wanting}
        self.shop.events += new

    def deliveries(self) -> dict[str, dict[str, Any]]:
        """Every delivery to the endpoints of this example."""
        found: list[dict[str, Any]] = []
        for endpoint in [*self.shop.endpoints, *self.shop.deleted]:
            cursor: str | None = ""
            while cursor is not None:
                page = self.server.get(
                    f"/v1/deliveries?endpoint_id={endpoint}&limit=100{cursor and f'&cursor={cursor}'}"
                )
                found += page["data"]
                cursor = page["next_cursor"]
        assert len({each["id"] for each in found}) == len(found)
        return {each["id"]: each for each in found}

    def teardown(self) -> None:
        for responder in self.responders:
            responder.status = 200
        for endpoint in self.shop.endpoints.values():
            assert (
                self.server.call("PATCH", f"/v1/webhook_endpoints/{endpoint.id}", {"status": "enabled"}).status == 200
            )
        for endpoint_id in self.shop.endpoints:
            path = f"/v1/deliveries?endpoint_id={endpoint_id}&status=pending"
            self.server.until(path, lambda page: not page["data"])
        self.check_deliveries()
        self.check_points()
        for endpoint_id in self.shop.endpoints:
            self.server.call("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")

    def check_deliveries(self) -> None:
        """There is one for each event and subscribed endpoint: delivered with the frozen bytes, or with a visible other status."""
        found = self.deliveries()
        assert set(found) == self.shop.expected
        arrived = {hit.headers["X-LoyalPro-Delivery-Id"]: hit for each in self.receivers for hit in list(each.hits)}
        events = {each["id"]: each for each in self.shop.events}
        for id_, delivery in found.items():
            assert delivery["status"] in STATUSES - {"pending", "parked"}
            assert (delivery["finished_at"] is not None) or delivery["endpoint_id"] in self.shop.deleted
            if delivery["status"] == "succeeded":
                assert json.loads(arrived[id_].body) == events[delivery["event_id"]]

    def check_points(self) -> None:
        """The ledger adds up to the balance, and each customer's events are numbered without a gap."""
        for customer, points in self.shop.points.items():
            assert self.server.get(f"/v1/customers/{customer}")["points"] == {
                "available": points,
                "pending": 0,
                "debt": 0,
            }
            ledger = self.server.get(f"/v1/customers/{customer}/ledger?limit=100")["data"]
            assert sum(each["points"] for each in ledger) == points
            events = self.server.listed(f"/v1/events?customer_id={customer}&limit=100")["data"]
            assert [each["sequence"] for each in events] == list(range(1, len(events) + 1))
        assert max(Counter(each["id"] for each in self.shop.events).values(), default=1) == 1

    def draw_endpoint(self, data: st.DataObject) -> Endpoint:
        return self.shop.endpoints[data.draw(st.sampled_from(sorted(self.shop.endpoints)))]

    def draw_customer(self, data: st.DataObject) -> str:
        return str(data.draw(st.sampled_from(sorted(self.shop.points))))


@pytest.fixture
def receivers(authority: Authority) -> Iterator[list[RawServer]]:
    made = [RawServer(Responder(), authority.context()) for _ in range(2)]
    yield made
    for each in made:
        each.stop()


def test_requests_in_any_order_keep_deliveries_and_points_right(
    databases: Databases, store: str, authority: Authority, receivers: list[RawServer]
) -> None:
    schedule = ",".join(["0.1"] * 15)
    with Server(databases.fresh(store), authority.ca_file, retry_schedule=schedule, sweep_interval=0.5) as server:
        server.report_purchases_only()
        Everything.server, Everything.receivers = server, receivers
        Everything.responders = [each.script for each in receivers if isinstance(each.script, Responder)]
        Everything.last_event = None
        run_state_machine_as_test(
            Everything,
            settings=settings(max_examples=10, stateful_step_count=40, deadline=None, phases=[Phase.generate]),
        )
