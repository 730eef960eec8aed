"""A claimed delivery for tests."""

from loyalpro.delivery.breaker import HEALTHY
from loyalpro.delivery.claims import Claimed, Target

TARGET = Target(
    endpoint_id="we_1",
    account_id="acct_1",
    url="https://shop.example/",
    headers=(),
    secrets=("whsec_c2VjcmV0",),
    primary=0,
    rate_limit=None,
    ordered=False,
    health=HEALTHY,
)
CLAIMED = Claimed(
    delivery_id="dlv_1",
    event_id="evt_1",
    event_type="points.earned",
    body=b"{}",
    attempt_number=1,
    scheduled_attempts=1,
    first_attempt_at=0,
    customer_id=None,
    fallback=None,
    probe=False,
    target=TARGET,
)
