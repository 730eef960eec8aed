"""`loyalpro serve` and `loyalpro worker` as separate processes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loyalpro.delivery.endpoint_queues import Bounds
from loyalpro.settings import Settings
from support.databases import Databases
from support.processes import get, running


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    return lambda files: running("serve", files=files, data_dir=str(tmp_path), port="0")


def test_a_server_raises_its_limit_of_open_files_to_the_hard_limit(serve: Callable[..., Any]) -> None:
    with serve((256, 7_000)) as server:
        line = server.logged("listening")
        assert server.limit() == (7_000, 7_000)
        assert get(line["address"], "/healthz")[0] == 200
        assert get(line["address"], "/healthz", a="b" * 70_000)[0] == 431
        server.stop()


def test_a_server_with_a_low_limit_of_open_files_logs_a_warning_and_starts(serve: Callable[..., Any]) -> None:
    with serve((256, 1_000)) as server:
        warning = server.logged("few_open_files")
        assert (warning["level"], warning["limit"], warning["in_flight"]) == ("warning", 1_000, Bounds().in_flight)
        assert warning["needed"] > Bounds().in_flight
        assert "LimitNOFILE" in warning["advice"]
        server.logged("listening")


def test_a_worker_serves_its_health_and_metrics_at_the_configured_address(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with running("worker", database_url=url, worker_listen="127.0.0.1:0") as worker:
        worker.logged("working")
        address = worker.logged("listening")["address"]
        status, body = get(address, "/healthz")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        status, body = get(address, "/readyz")
        assert json.loads(body).keys() - {"causes"} == {"status", "delivers"}  # causes: while it is not ready yet
        status, body = get(address, "/metrics")
        assert (status, b"loyalpro_deliveries_in_flight" in body) == (200, True)
        assert b'loyalpro_http_requests_total{method="GET",route="/readyz"' in body
        assert get(address, "/healthz", a="b" * 70_000)[0] == 431
        for path in ("/v1/customers", "/", "/openapi.json"):
            status, body = get(address, path, **{"X-Request-Id": "check-1"})
            assert (status, json.loads(body)["request_id"]) == (404, "check-1")
        worker.stop()


def test_a_worker_does_not_listen_by_default(databases: Databases) -> None:
    with running("worker", database_url=databases.fresh("postgres")) as worker:
        worker.logged("working")
        inodes = {str(each.readlink()) for each in Path(f"/proc/{worker.process.pid}/fd").iterdir()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert not [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]
        worker.stop()


@pytest.mark.parametrize(
    ("text", "address"), [("", None), ("127.0.0.1:9090", ("127.0.0.1", 9090)), ("[::1]:0", ("::1", 0))]
)
def test_worker_listen_is_a_host_and_a_port(text: str, address: tuple[str, int] | None) -> None:
    assert Settings(worker_listen=text).worker_address == address


@pytest.mark.parametrize("text", ["9090", ":9090", "localhost", "localhost:x", "localhost:70000", "::1:9090:"])
def test_any_other_worker_listen_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=re.escape("host:port")):
        Settings(worker_listen=text)
