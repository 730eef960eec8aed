"""What a running server shows of its periodic jobs: the table job_runs, and the metrics."""

import re
import time

from support.history import query
from support.server import Server

ON_BOTH = {
    "windows",
    "deleted_endpoints",
    "orphaned_leases",
    "unsent",
    "retention",
    "idempotency",
    "leftovers",
    "bulk",
    "erasures",
    "fraud_cases",
    "expiry",
    "tier_review",
    "reservations",
    "retier",
    "replays",
    "counters",
    "disk_space",
    "churn",
    "key_uses",
    "people_upkeep",
    "counts",
}


def counted(server: Server) -> set[str]:
    """The jobs of which /metrics shows a run that ended without an error."""
    text = server.call("GET", "/metrics").raw.decode()
    return set(re.findall(r'^loyalpro_job_runs_total\{job="(\w+)",result="done"\} [1-9]', text, re.MULTILINE))


def test_a_server_counts_and_records_the_runs_of_every_job(database_url: str, store: str) -> None:
    expected = ON_BOTH | ({"partitions", "statistics"} if store == "postgres" else set())
    with Server(database_url) as server:
        customer_id = server.post("/v1/customers", {"name": "Ada"})["id"]
        assert server.call("DELETE", f"/v1/customers/{customer_id}").status == 200
        deadline_s = time.monotonic() + 90
        changed: dict[str, int | None] = {}
        while not (counted(server) >= expected and set(changed) >= expected and changed["erasures"]):
            assert time.monotonic() < deadline_s, (counted(server), changed)
            changed = dict(query(database_url, "SELECT job, changed_items FROM job_runs"))
        assert counted(server) == set(changed) == expected
    assert query(database_url, "SELECT job, error FROM job_runs WHERE error IS NOT NULL") == []
