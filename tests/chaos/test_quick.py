"""Real processes, one `kill -9` under load, and every check."""

import pytest

from chaos.report import examples


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_after_kill_9_every_acknowledged_purchase_is_delivered_with_the_same_ids_and_bytes(
    store: str, request: pytest.FixtureRequest
) -> None:
    verdict = request.getfixturevalue(f"{store}_run").verdict
    assert examples(verdict) == []
    assert verdict.fired == {"kill": 1}
    assert verdict.counts["purchases acknowledged"] > 100
    assert verdict.counts["delivered"] == verdict.counts["pairs (event, endpoint)"] > 600
