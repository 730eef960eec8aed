"""Secrets that cannot be opened: a wrong key stops the start, and a damaged secret stops its endpoint alone."""

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from loyalpro.app import Application
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.settings import Settings
from support.history import query
from support.receivers import Authority, RawServer, good
from support.server import Server

OLD, NEW = "a key for tests of enough characters", "another key of enough characters"


@pytest.fixture
def endpoint(database_url: str) -> str:
    """The id of an endpoint whose secret is sealed with the old key."""
    with Server(database_url, secret_key=OLD) as server:
        made = server.post("/v1/webhook_endpoints", {"url": "https://127.0.0.1/hook", "events": ["*"]})
        return str(made["id"])


@pytest.mark.parametrize("works", ["running", "working"])
@pytest.mark.usefixtures("endpoint")
def test_a_start_without_the_key_of_a_secret_is_refused(database_url: str, works: str) -> None:
    with pytest.raises(ConfigurationError, match="LOYALPRO_SECRET_KEY=new,old"):
        start(database_url, NEW, works)
    start(database_url, f"{NEW},{OLD}", works)


def test_the_key_of_an_expired_secret_is_not_needed(database_url: str, endpoint: str) -> None:
    with Server(database_url, secret_key=f"{NEW},{OLD}") as server:
        server.post(f"/v1/webhook_endpoints/{endpoint}/rotate_secret", {"overlap_seconds": 60})
    with pytest.raises(ConfigurationError):
        start(database_url, NEW)
    query(database_url, "UPDATE endpoint_secrets SET expires_at = 1 WHERE expires_at IS NOT NULL RETURNING 1")
    start(database_url, NEW)


def test_the_key_of_a_deleted_endpoint_is_not_needed(database_url: str, endpoint: str) -> None:
    with Server(database_url, secret_key=OLD) as server:
        assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
    start(database_url, NEW)


def test_a_generated_key_still_opens_its_secrets_when_the_environment_names_another(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'loyalpro.db'}"
    with Server(url, secret_key="") as server:
        made = server.post("/v1/webhook_endpoints", {"url": "https://127.0.0.1/hook", "events": ["*"]})
    with Server(url, secret_key=NEW) as server:
        kept = server.get(f"/v1/webhook_endpoints/{made['id']}/secret")
        assert kept["secret"] == made["secret"]
        server.post("/v1/webhook_endpoints", {"url": "https://127.0.0.1/hook", "events": ["*"]})
    (tmp_path / "secret.key").unlink()
    with pytest.raises(ConfigurationError, match=r"secret\.key"):
        start(url, NEW)


def test_no_key_is_generated_when_the_environment_names_one(tmp_path: Path) -> None:
    with Server(f"sqlite:///{tmp_path / 'loyalpro.db'}", secret_key=NEW):
        pass
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize("bytes_left", [8, 40])
def test_a_damaged_secret_stops_its_own_endpoint_alone_until_it_is_replaced(
    database_url: str, authority: Authority, bytes_left: int
) -> None:
    with RawServer(good, authority.context()) as receiver, capture_logs() as logs:
        with Server(database_url, authority.ca_file) as server:
            damaged, sound = (
                server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"] for _ in range(2)
            )
        cut = "UPDATE endpoint_secrets SET sealed = substr(sealed, 1, CAST(? AS INTEGER)) WHERE endpoint_id = ? RETURNING 1"
        query(database_url, cut, bytes_left, damaged)
        with Server(database_url, authority.ca_file) as server:
            for _ in range(2):
                server.post("/v1/customers", {})
            hits = receiver.wait_for(2)
            server.until(f"/v1/deliveries?endpoint_id={sound}&status=succeeded", lambda found: len(found["data"]) == 2)
            assert len(server.get(f"/v1/deliveries?endpoint_id={damaged}&status=pending")["data"]) == 2
            assert server.call("GET", "/readyz").status == 200
            server.post(f"/v1/webhook_endpoints/{damaged}/rotate_secret", {"overlap_seconds": 0})
            server.until(
                f"/v1/deliveries?endpoint_id={damaged}&status=succeeded", lambda found: len(found["data"]) == 2
            )
    assert {json.loads(hit.body)["type"] for hit in hits} == {"customer.created"}
    assert [line["endpoint_id"] for line in logs if line["event"] == "secret_unreadable"] == [damaged]
    assert not [line for line in logs if line["event"].endswith("_broke")]


def start(url: str, secret_key: str, works: str = "running") -> None:
    """Start and stop an application, as a server or as a worker."""
    settings = Settings(database_url=SecretStr(url), secret_key=SecretStr(secret_key), min_free_mb=0)

    async def main() -> None:
        async with getattr(Application(settings), works)():
            pass

    asyncio.run(main())
