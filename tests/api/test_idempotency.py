"""The response to an Idempotency-Key is repeated, even when the same request would now be refused."""

from dataclasses import replace

from loyalpro.transport.address_policy import AddressPolicy
from support.server import Server

ENDPOINT = {"url": "https://127.0.0.1:9/hook", "events": ["*"]}


def test_the_stored_response_is_repeated_when_the_url_is_no_longer_allowed(database_url: str) -> None:
    with Server(database_url) as server:
        first = server.call("POST", "/v1/webhook_endpoints", ENDPOINT, Idempotency_Key="once")
        assert first.status == 201
        state = server.application.web.state
        state.services = replace(state.services, policy=AddressPolicy([]))
        again = server.call("POST", "/v1/webhook_endpoints", ENDPOINT, Idempotency_Key="once")
        assert (again.status, again.raw) == (201, first.raw)
        assert again.headers["idempotent-replayed"] == "true"
        other = server.call("POST", "/v1/webhook_endpoints", ENDPOINT | {"events": []}, Idempotency_Key="once")
        assert other.status == 422
        changed = server.call(
            "POST", "/v1/webhook_endpoints", ENDPOINT | {"ordering": "customer"}, Idempotency_Key="once"
        )
        assert (changed.status, changed.json["code"]) == (422, "idempotency_key_reused")
        new = server.call("POST", "/v1/webhook_endpoints", ENDPOINT, Idempotency_Key="other")
        assert (new.status, new.json["code"]) == (422, "target_not_allowed")
        wrong = server.call("POST", "/v1/webhook_endpoints", ENDPOINT, Idempotency_Key="x" * 256)
        assert (wrong.status, wrong.json["code"]) == (422, "invalid_idempotency_key")
        assert len(server.get("/v1/webhook_endpoints")["data"]) == 1
