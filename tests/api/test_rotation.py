"""Rotating a secret under traffic, with receivers that have one secret and check `X-LoyalPro-Signature`."""

import hashlib
import hmac
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import standardwebhooks

from support.history import query
from support.receivers import Authority, Hit, RawServer, answer
from support.server import Server


class OneSecretReceiver:
    """A receiver that has one secret: 200 for requests that it signs, and 401 for others."""

    def __init__(self) -> None:
        self.secret = ""
        self.accepted: list[str] = []
        self.refused: list[str] = []
        self.gate: threading.Event | None = None

    def __call__(self, connection: socket.socket, hit: Hit | None) -> None:
        assert hit is not None
        expected = hmac.new(self.secret.encode(), hit.body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(expected, hit.headers["X-LoyalPro-Signature"])
        (self.accepted if genuine else self.refused).append(hit.headers["X-LoyalPro-Event-Id"])
        if genuine and self.gate is not None:
            self.gate.wait(60)
        connection.sendall(answer(200 if genuine else 401))


@pytest.fixture
def checking() -> OneSecretReceiver:
    return OneSecretReceiver()


@pytest.fixture
def receiver(authority: Authority, checking: OneSecretReceiver) -> Iterator[RawServer]:
    with RawServer(checking, authority.context()) as listening:
        yield listening
        if checking.gate is not None:
            checking.gate.set()


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule=",".join(["0.1"] * 100)) as running:
        yield running


@pytest.fixture
def endpoint(server: Server, receiver: RawServer, checking: OneSecretReceiver) -> str:
    made = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["customer.created"]})
    checking.secret = made["secret"]
    return str(made["id"])


def rotate(server: Server, endpoint: str, **body: object) -> dict[str, Any]:
    made: dict[str, Any] = server.post(f"/v1/webhook_endpoints/{endpoint}/rotate_secret", body or None)
    return made


def rotation(server: Server, endpoint: str) -> Any:
    return server.get(f"/v1/webhook_endpoints/{endpoint}")["rotation"]


def enroll(server: Server, count: int = 1) -> None:
    for _ in range(count):
        server.post("/v1/customers", {})


def all_delivered(server: Server) -> list[dict[str, Any]]:
    """Every delivery, once all have succeeded."""
    path = "/v1/deliveries?limit=100"
    page = server.until(path, lambda page: all(each["status"] == "succeeded" for each in page["data"]))
    found: list[dict[str, Any]] = page["data"]
    return found


def signatures(hit: Hit) -> int:
    return len(hit.headers["webhook-signature"].split())


def verifies(secret: str, hit: Hit) -> bool:
    headers = {name.lower(): value for name, value in hit.headers.items()}
    try:
        standardwebhooks.Webhook(secret).verify(hit.body, headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def test_a_receiver_that_changes_its_secret_under_traffic_gets_every_event_on_the_first_attempt(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    old = checking.secret
    enroll(server, 5)
    made = rotate(server, endpoint)
    new = made["secret"]
    assert (made["promoted"], new.startswith("whsec_"), new != old) == (False, True, True)
    assert rotation(server, endpoint) == {
        "previous_secret_expires_at": made["previous_secret_expires_at"],
        "promoted": False,
    }
    assert server.get(f"/v1/webhook_endpoints/{endpoint}/secret") == {"secret": new}
    enroll(server, 10)
    all_delivered(server)
    assert not checking.refused
    traffic = threading.Thread(target=enroll, args=(server, 40))
    traffic.start()
    checking.secret = new
    traffic.join()
    found = all_delivered(server)
    assert {each["attempt_count"] for each in found} == {1}, (
        "a refused request is repeated with the new secret within its attempt"
    )
    assert sorted(checking.accepted) == sorted(each["event_id"] for each in found)
    assert 1 <= len(checking.refused) == len(set(checking.refused)) < 40
    assert rotation(server, endpoint) is None
    refused = len(checking.refused)
    enroll(server, 5)
    all_delivered(server)
    assert len(checking.refused) == refused
    during = receiver.hits[-1]
    assert signatures(during) == 2
    assert verifies(old, during)
    assert verifies(new, during)


def test_a_receiver_that_changes_its_secret_after_the_overlap_gets_every_event_by_retries(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    new = rotate(server, endpoint, overlap_seconds=1)["secret"]
    server.until(f"/v1/webhook_endpoints/{endpoint}", lambda view: view["rotation"] is None)
    enroll(server, 3)
    server.until("/v1/deliveries", lambda view: [each["attempt_count"] > 0 for each in view["data"]] == [True] * 3)
    assert len(set(checking.refused)) == 3
    assert signatures(receiver.hits[-1]) == 1
    checking.secret = new
    assert len(all_delivered(server)) == 3
    assert sorted(set(checking.refused)) == sorted(checking.accepted)


def test_an_overlap_of_0_revokes_the_old_secret_at_once(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    old = checking.secret
    made = rotate(server, endpoint, overlap_seconds=0)
    assert (made["previous_secret_expires_at"], made["promoted"]) == (None, True)
    assert rotation(server, endpoint) is None
    checking.secret = made["secret"]
    enroll(server)
    [hit] = receiver.wait_for(1)
    assert (signatures(hit), verifies(old, hit), verifies(made["secret"], hit)) == (1, False, True)


def test_promote_finishes_a_rotation_and_never_begins_one(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    waiting = rotate(server, endpoint)
    promoted = rotate(server, endpoint, promote=True)
    assert promoted == waiting | {"promoted": True}
    assert rotation(server, endpoint) is None
    checking.secret = waiting["secret"]
    enroll(server)
    assert signatures(receiver.wait_for(1)[0]) == 2
    rotate(server, endpoint)
    finished = rotate(server, endpoint, promote=True, overlap_seconds=0)
    assert finished["previous_secret_expires_at"] is None
    checking.secret = finished["secret"]
    enroll(server)
    assert signatures(receiver.wait_for(2)[1]) == 1
    all_delivered(server)
    assert not checking.refused


@pytest.mark.parametrize("noticed", [False, True], ids=["no rotation", "a rotation that the receiver has finished"])
def test_promote_without_a_rotation_is_refused_and_changes_nothing(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver, *, noticed: bool
) -> None:
    if noticed:
        checking.secret = rotate(server, endpoint)["secret"]
        enroll(server)
        all_delivered(server)
        assert rotation(server, endpoint) is None
    hits, secret = len(receiver.hits), server.get(f"/v1/webhook_endpoints/{endpoint}/secret")
    for body in ({"promote": True}, {"promote": True, "overlap_seconds": 0}):
        refusal = server.call("POST", f"/v1/webhook_endpoints/{endpoint}/rotate_secret", body)
        assert (refusal.status, refusal.json["code"], refusal.json["param"]) == (409, "no_rotation", "promote")
    enroll(server)
    all_delivered(server)
    assert signatures(receiver.wait_for(hits + 1)[-1]) == (2 if noticed else 1)
    assert server.get(f"/v1/webhook_endpoints/{endpoint}/secret") == secret


def test_at_most_five_secrets_are_valid(server: Server, endpoint: str) -> None:
    for _ in range(4):
        rotate(server, endpoint)
    refusal = server.call("POST", f"/v1/webhook_endpoints/{endpoint}/rotate_secret")
    assert (refusal.status, refusal.json["code"]) == (409, "too_many_secrets")
    rotate(server, endpoint, overlap_seconds=0)
    rotate(server, endpoint)


def test_a_receiver_that_accepts_one_secret_does_not_promote_the_next(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    shown = rotate(server, endpoint)["secret"]
    checking.secret, checking.gate = shown, threading.Event()
    enroll(server)
    receiver.wait_for(2)
    rotate(server, endpoint)
    checking.gate.set()
    all_delivered(server)
    assert rotation(server, endpoint) is not None
    enroll(server)
    all_delivered(server)
    assert len(checking.refused) == 1


@pytest.mark.parametrize("held", [0, 1, 2, 3])
def test_a_receiver_with_any_of_several_valid_secrets_gets_every_event(
    server: Server, endpoint: str, checking: OneSecretReceiver, held: int
) -> None:
    secrets = [checking.secret, *(rotate(server, endpoint)["secret"] for _ in range(3))]
    checking.secret = secrets[held]
    enroll(server, 3)
    found = all_delivered(server)
    assert {each["attempt_count"] for each in found} == {1}
    assert len(checking.accepted) == 3
    assert (rotation(server, endpoint) is None) == (held == 3)
    for later in secrets[held:]:
        checking.secret = later
        enroll(server)
        refused = len(checking.refused)
        assert {each["attempt_count"] for each in all_delivered(server)} == {1}
        enroll(server)
        all_delivered(server)
        assert len(checking.refused) <= refused + 3, "a secret that the receiver has accepted signs alone"
    assert rotation(server, endpoint) is None


def test_a_receiver_that_still_has_the_old_secret_after_a_promote_gets_every_event(
    server: Server, endpoint: str, checking: OneSecretReceiver
) -> None:
    rotate(server, endpoint)
    rotate(server, endpoint, promote=True)
    enroll(server, 3)
    assert {each["attempt_count"] for each in all_delivered(server)} == {1}
    assert len(checking.accepted) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"overlap_seconds": -1},
        {"overlap_seconds": 604_801},
        {"overlap_seconds": "1"},
        {"overlap_seconds": True},
        {"promote": 1},
        {"secret": "whsec_mine"},
    ],
)
def test_a_wrong_field_is_refused(server: Server, endpoint: str, body: dict[str, object]) -> None:
    response = server.call("POST", f"/v1/webhook_endpoints/{endpoint}/rotate_secret", body)
    assert (response.status, response.json["param"]) == (422, next(iter(body)))
    assert rotation(server, endpoint) is None
    assert server.call("POST", f"/v1/webhook_endpoints/we_{'0' * 26}/rotate_secret").status == 404


def test_a_repeated_request_makes_one_secret(server: Server, endpoint: str) -> None:
    path = f"/v1/webhook_endpoints/{endpoint}/rotate_secret"
    first, second = (server.post(path, {}, Idempotency_Key="once") for _ in range(2))
    assert first == second
    assert server.get(f"/v1/webhook_endpoints/{endpoint}/secret")["secret"] == first["secret"]


def attempt_of(server: Server, delivery_id: str) -> dict[str, Any]:
    """The first attempt of a delivery."""
    found: dict[str, Any] = server.get(f"/v1/deliveries/{delivery_id}")["attempts"][0]
    return found


def plain_signature(request: dict[str, Any]) -> str:
    return str(dict(request["request"]["headers"])["X-LoyalPro-Signature"])


def test_an_attempt_shows_each_request_that_the_receiver_got(
    server: Server, endpoint: str, receiver: RawServer, checking: OneSecretReceiver
) -> None:
    checking.secret = rotate(server, endpoint)["secret"]
    enroll(server)
    [delivery] = all_delivered(server)
    attempt = attempt_of(server, delivery["id"])
    requests = attempt.pop("requests")
    assert [(each["number"], each["outcome"], each["response"]["status"]) for each in requests] == [
        (1, "http_4xx", 401),
        (2, "succeeded", 200),
    ]
    assert [plain_signature(each) for each in requests] == [
        hit.headers["X-LoyalPro-Signature"] for hit in receiver.hits
    ]
    for each in requests:
        assert each["response"]["body_excerpt"] == '{"received":true}'
        assert each["detail"] == f"The endpoint answered {each['response']['status']}."
        assert (each["timings"]["total_ms"] > 0, each["remote_ip"]) == (True, "127.0.0.1")
    first, last = requests
    assert attempt["started_at"] == first["started_at"] <= last["started_at"]
    assert attempt == last | {"number": 1, "started_at": first["started_at"]}, "the last request decided the outcome"


def test_an_attempt_that_every_secret_failed_shows_all_requests_and_is_decided_by_the_first(
    server: Server, endpoint: str, checking: OneSecretReceiver
) -> None:
    rotate(server, endpoint)
    rotate(server, endpoint)
    right, checking.secret = checking.secret, "known to nobody"
    enroll(server)
    page = server.until("/v1/deliveries", lambda page: page["data"] and page["data"][0]["attempt_count"])
    attempt = attempt_of(server, page["data"][0]["id"])
    assert [each["response"]["status"] for each in attempt["requests"]] == [401, 401, 401]
    assert len({plain_signature(each) for each in attempt["requests"]}) == 3
    assert plain_signature(attempt) == plain_signature(attempt["requests"][0])
    checking.secret = right
    all_delivered(server)


def test_no_request_of_an_attempt_shows_the_values_of_custom_headers(
    server: Server, receiver: RawServer, checking: OneSecretReceiver, database_url: str
) -> None:
    body = {"url": receiver.url, "events": ["customer.created"], "headers": {"X-Token": "canary-4c1e"}}
    endpoint = server.post("/v1/webhook_endpoints", body)["id"]
    checking.secret = rotate(server, endpoint)["secret"]
    enroll(server)
    [delivery] = all_delivered(server)
    assert [hit.headers["X-Token"] for hit in receiver.hits] == ["canary-4c1e"] * 2
    requests = attempt_of(server, delivery["id"])["requests"]
    assert [dict(each["request"]["headers"])["X-Token"] for each in requests] == ["********"] * 2
    [(stored,)] = query(database_url, "SELECT requests FROM attempts")
    assert "canary" not in stored


def test_the_usual_attempt_shows_one_request_and_stores_it_once(
    server: Server, endpoint: str, database_url: str
) -> None:
    enroll(server)
    [delivery] = all_delivered(server)
    attempt = attempt_of(server, delivery["id"])
    [only] = attempt.pop("requests")
    assert only == attempt
    assert query(database_url, "SELECT requests, responses FROM attempts") == [(None, None)]
