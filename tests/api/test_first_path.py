"""From a purchase over HTTP to a webhook that independent libraries verify."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import standardwebhooks
import svix.webhooks

from support import node
from support.history import query
from support.receivers import Authority, Hit, RawServer, answering, good
from support.server import Server

PURCHASE_TYPES = ["customer.created", "transaction.completed", "points.earned"]


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


@pytest.fixture
def receiver(authority: Authority) -> Iterator[RawServer]:
    with RawServer(good, authority.context()) as listening:
        yield listening


def subscribe(server: Server, receiver: RawServer, **more: object) -> dict[str, str]:
    made: dict[str, str] = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"], **more})
    return made


def buy(server: Server, amount: int = 5_600, **more: object) -> None:
    customer = server.post("/v1/customers", {"external_id": "shop-77", "email": "a@example.com", "name": "Zoë 日本"})
    server.post("/v1/transactions", {"customer_id": customer["id"], "amount": amount, "currency": "EUR", **more})


def in_order(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: json.loads(hit.body)["sequence"])


def test_a_purchase_becomes_three_webhooks(server: Server, receiver: RawServer) -> None:
    subscribe(server, receiver)
    buy(server, items=[{"sku": "A", "quantity": 1, "amount": 5_600}], metadata={"till": {"no": 4, "x": [1.5, None]}})
    hits = in_order(receiver.wait_for(3))
    bodies = [json.loads(hit.body) for hit in hits]
    assert [body["type"] for body in bodies] == PURCHASE_TYPES
    assert [body["sequence"] for body in bodies] == [1, 2, 3]
    assert bodies[1]["data"]["points_earned"] == 56
    assert bodies[2]["data"]["points"] == 56
    assert bodies[2]["data"]["balance"] == {
        "before": 0, "after": 56, "pending_before": 0, "pending": 0, "debt_before": 0, "debt": 0,
    }  # fmt: skip
    for hit, body in zip(hits, bodies, strict=True):
        assert list(body) == ["id", "type", "created_at", "api_version", "account_id", "sequence", "data"]
        assert hit.head == "POST /hook HTTP/1.1"
        assert hit.headers["Content-Type"] == "application/json"
        assert hit.headers["User-Agent"].startswith("LoyalPro-Webhooks/")
        assert hit.headers["X-LoyalPro-Event-Id"] == hit.headers["webhook-id"] == body["id"]
        assert hit.headers["X-LoyalPro-Event-Type"] == body["type"]
        assert hit.headers["X-LoyalPro-Attempt"] == "1"
        assert server.get(f"/v1/events/{body['id']}") == body


def test_deliveries_verify_with_the_raw_bytes_in_node_and_with_both_published_libraries(
    server: Server, receiver: RawServer
) -> None:
    secret = subscribe(server, receiver)["secret"]
    buy(server, metadata={"price": 1e-7, "big": 9e15, "text": "\u2028 <é> \U0001f600"})
    for hit in receiver.wait_for(3):
        signature = hit.headers["X-LoyalPro-Signature"]
        assert hmac.new(secret.encode(), hit.body, hashlib.sha256).hexdigest() == signature
        script = (
            "const c=require('crypto'),b=require('fs').readFileSync(0,'utf8');"
            f"process.stdout.write(c.createHmac('sha256',{json.dumps(secret)}).update(JSON.stringify(JSON.parse(b))).digest('hex'))"
        )
        assert node.run(script, hit.body) == signature
        headers = {name.lower(): value for name, value in hit.headers.items()}
        assert standardwebhooks.Webhook(secret).verify(hit.body, headers)
        svix.webhooks.Webhook(secret).verify(hit.body, headers)
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(hit.body + b" ", headers)
        with pytest.raises(svix.webhooks.WebhookVerificationError):
            svix.webhooks.Webhook(secret).verify(hit.body + b" ", headers)


def test_every_body_validates_against_its_published_schema(server: Server, receiver: RawServer) -> None:
    endpoint = subscribe(server, receiver)
    schemas = {each["type"]: each["schema"] for each in server.get("/v1/event_types")["data"]}
    assert len(schemas) == 12
    buy(server)
    for name in schemas:
        server.post(f"/v1/webhook_endpoints/{endpoint['id']}/test", {"type": name})
    for hit in receiver.wait_for(3 + len(schemas)):
        body = json.loads(hit.body)
        jsonschema.Draft202012Validator(schemas[body["type"]]).validate(body)
        broken = body | {"data": {}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schemas[body["type"]]).validate(broken)


def test_a_failed_attempt_is_repeated_with_the_same_bytes_and_both_are_shown(
    database_url: str, authority: Authority
) -> None:
    script = answering(500, 200, X_Reason="maintenance")
    with (
        Server(database_url, authority.ca_file, retry_schedule="0.1,0.1") as server,
        RawServer(script, authority.context()) as receiver,
    ):
        server.post(
            "/v1/webhook_endpoints",
            {"url": receiver.url, "events": ["customer.created"], "headers": {"X-Team": "loyalty"}},
        )
        server.post("/v1/customers", {"name": "Ada"})
        first, second = receiver.wait_for(2)
        assert first.body == second.body
        assert (first.headers["X-LoyalPro-Attempt"], second.headers["X-LoyalPro-Attempt"]) == ("1", "2")
        assert first.headers["X-LoyalPro-Delivery-Id"] == second.headers["X-LoyalPro-Delivery-Id"]
        assert second.headers["X-Team"] == "loyalty"
        delivery = wait_until_settled(server, first.headers["X-LoyalPro-Delivery-Id"])
        assert delivery["status"] == "succeeded"
        assert [each["outcome"] for each in delivery["attempts"]] == ["http_5xx", "succeeded"]
        failed = delivery["attempts"][0]
        assert failed["response"]["status"] == 500
        assert ["X-Reason", "maintenance"] in failed["response"]["headers"]
        assert failed["response"]["body_excerpt"] == '{"received":true}'
        assert ["X-LoyalPro-Attempt", "1"] in failed["request"]["headers"]
        assert failed["timings"]["total_ms"] > 0
        assert failed["timings"]["tls_ms"] > 0


def wait_until_settled(server: Server, delivery_id: str) -> dict[str, Any]:
    """Read the delivery until it is settled; the test times out if it never is."""
    while True:
        delivery: dict[str, Any] = server.get(f"/v1/deliveries/{delivery_id}")
        if delivery["status"] != "pending":
            return delivery


def test_when_every_attempt_failed_the_delivery_is_exhausted_and_kept(database_url: str, authority: Authority) -> None:
    with (
        Server(database_url, authority.ca_file, retry_schedule="0.05") as server,
        RawServer(answering(302, Location="https://localhost:1/"), authority.context()) as receiver,
    ):
        server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        server.post("/v1/customers", {})
        hit = receiver.wait_for(2)[0]
        delivery = wait_until_settled(server, hit.headers["X-LoyalPro-Delivery-Id"])
        assert delivery["status"] == "exhausted"
        assert delivery["attempt_count"] == 2
        assert server.get("/v1/deliveries?status=exhausted")["data"][0]["id"] == delivery["id"]


def test_no_signing_secret_is_stored_in_plain_text(database_url: str, authority: Authority) -> None:
    """Stored responses of idempotency keys included."""
    address = {"url": "https://127.0.0.1:9/hook", "events": ["*"]}
    with Server(database_url, authority.ca_file) as server:
        made, again = (server.post("/v1/webhook_endpoints", address, Idempotency_Key="make") for _ in range(2))
        path = f"/v1/webhook_endpoints/{made['id']}/rotate_secret"
        rotated, repeated = (server.post(path, {}, Idempotency_Key="rotate") for _ in range(2))
    assert (again, repeated) == (made, rotated)
    kept = [
        *query(database_url, "SELECT body FROM idempotency_keys"),
        *query(database_url, "SELECT sealed FROM endpoint_secrets"),
    ]
    assert len(kept) == 4
    for (stored,) in kept:
        assert not any(each["secret"].encode() in bytes(stored) for each in (made, rotated))


def test_signatures_equal_published_examples() -> None:
    from loyalpro.transport.signing import plain, standard

    body = b'{"event":"charge.success","amount":1000,"currency":"NGN"}'
    expected = "244449b7f48cbc2709060c9dcdc2b3aa47a78f540430579015c579fb12defbb4"
    assert plain("convoy-webhook-secret", body) == expected
    vector = standard(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert vector == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert base64.b64decode(vector.removeprefix("v1,"))
