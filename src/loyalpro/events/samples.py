"""A sample of each event type, for test deliveries and documentation. Its ids end in zeros, which no real id does."""

from typing import Any, Final

from loyalpro.events.catalog import API_VERSION
from loyalpro.events.churn import ChurnFeatures, ChurnModel, ChurnRisk, ChurnThreshold, ChurnValue
from loyalpro.events.customer import (
    Balance,
    Customer,
    CustomerCreated,
    CustomerDeleted,
    CustomerTierChanged,
    CustomerUpdated,
    NextTier,
    Qualification,
    Tier,
)
from loyalpro.events.fraud import FraudDetected, FraudRule, FraudTrigger, Measurement
from loyalpro.events.payload import Payload
from loyalpro.events.points import (
    BalanceChange,
    ExpiredLot,
    PointsAdjusted,
    PointsEarned,
    PointsExpired,
    PointsRedeemed,
    Reward,
)
from loyalpro.events.transaction import Transaction, TransactionCompleted, TransactionRefunded
from loyalpro.kernel.clock import MS_PER_DAY, UnixMs, rfc3339

_SHOWN_TIME: Final = 1_795_428_930_123


def sample(event_type: str, now: UnixMs) -> dict[str, Any]:
    """`data` of a sample event of this type, as if it had happened at `now`."""
    start, end = rfc3339(now), rfc3339(now + 365 * MS_PER_DAY)
    payloads = [
        *_of_customers(start, end),
        *_of_points(start, end),
        *_of_transactions(start),
        _fraud(start),
        _churn(start),
    ]
    return {each.type: each for each in payloads}[event_type].data()


def sample_body(event_type: str) -> dict[str, Any]:
    """The body of a sample event of this type, for documentation."""
    return {
        "id": _id("evt"),
        "type": event_type,
        "created_at": rfc3339(_SHOWN_TIME),
        "api_version": API_VERSION,
        "account_id": _id("acct"),
        "sequence": 7,
        "data": sample(event_type, _SHOWN_TIME),
    }


def _id(prefix: str) -> str:
    return f"{prefix}_{'0' * 26}"


def _of_customers(now: str, later: str) -> list[Payload]:
    customer = Customer(
        id=_id("cus"),
        external_id="sample-customer",
        email="ada@example.com",
        phone=None,
        name="Ada Sample",
        status="active",
        tags=[],
        tier=Tier(id=_id("tier"), name="Bronze", rank=1),
        balance=Balance(available=56, pending=0, debt=0),
        metadata={},
        enrolled_at=now,
        earning_blocked=False,
        redeeming_blocked=False,
    )
    return [
        CustomerCreated(customer=customer, source="api"),
        CustomerUpdated(
            customer=customer, previous_attributes={"email": "old@example.com"}, changed=["email"], source="api"
        ),
        CustomerDeleted(
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            external_id="sample-customer",
            deleted_at=now,
            reason="merchant_request",
            erased=True,
            points_forfeited=56,
            merged_into=None,
        ),
        CustomerTierChanged(
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            direction="upgrade",
            previous_tier=Tier(id=_id("tier"), name="Bronze", rank=1),
            tier=Tier(id=_id("tier"), name="Silver", rank=2),
            reason="qualified",
            qualification=Qualification(
                metric="points_earned", value=1040, threshold=1000, window_start=now, window_end=later
            ),
            effective_at=now,
            tier_expires_at=later,
            next_tier=NextTier(id=_id("tier"), name="Gold", remaining=3960),
        ),
    ]


def _of_points(now: str, later: str) -> list[Payload]:
    return [
        PointsEarned(
            entry_id=_id("led"),
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            points=56,
            status="available",
            activates_at=None,
            expires_at=later,
            lot_id=_id("lot"),
            transaction_id=_id("txn"),
            transaction_external_id="sample-order",
            reason="purchase",
            rules=[{"id": _id("rule"), "name": "1 point per 1.00 EUR", "points": 56}],
            balance=_balance(before=0, after=56),
            occurred_at=now,
            source="api",
        ),
        PointsRedeemed(
            entry_id=_id("led"),
            redemption_id=_id("red"),
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            points=50,
            reward=Reward(
                id=_id("rew"), name="5 EUR off", type="amount_off", amount=500, currency="EUR", percent=None, sku=None
            ),
            transaction_id=None,
            code=None,
            status="redeemed",
            reserved_until=None,
            balance=_balance(before=56, after=6),
        ),
        PointsExpired(
            entry_id=_id("led"),
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            points=56,
            lots=[ExpiredLot(lot_id=_id("lot"), points=56, earned_at=now, expired_at=later)],
            policy="months_12_day",
            balance=_balance(before=56, after=0),
        ),
        PointsAdjusted(
            entry_id=_id("led"),
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            points=20,
            kind="manual",
            reason_code="goodwill",
            note="Sample",
            reverses_entry_id=None,
            transaction_id=None,
            refund_id=None,
            redemption_id=None,
            actor=f"key:{_id('key')}",
            shortfall=0,
            counts_toward_tier=False,
            balance=_balance(before=56, after=76),
        ),
    ]


def _balance(*, before: int, after: int) -> BalanceChange:
    """A change of what is available; nothing is pending or owed."""
    return BalanceChange(before=before, after=after, pending_before=0, pending=0, debt_before=0, debt=0)


def _of_transactions(now: str) -> list[Payload]:
    transaction = Transaction(
        id=_id("txn"),
        external_id="sample-order",
        customer_id=_id("cus"),
        status="completed",
        currency="EUR",
        amount=5600,
        eligible_amount=5600,
        tax_amount=934,
        shipping_amount=0,
        tip_amount=0,
        gift_card_amount=0,
        points_discount_amount=0,
        items=[{"sku": "SAMPLE-1", "quantity": 1, "amount": 5600}],
        channel="pos",
        location_id=None,
        employee_id=None,
        metadata={},
        completed_at=now,
    )
    return [
        TransactionCompleted(
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            transaction=transaction,
            points_earned=56,
            redemption_ids=[],
            source="api",
        ),
        TransactionRefunded(
            refund_id=_id("ref"),
            external_id=None,
            transaction_id=_id("txn"),
            transaction_external_id="sample-order",
            customer_id=_id("cus"),
            customer_external_id="sample-customer",
            amount=2800,
            currency="EUR",
            total_refunded=2800,
            remaining_amount=2800,
            full=False,
            items=[],
            points_clawed_back=28,
            points_restored=0,
            points_shortfall=0,
            points_expired_before=0,
            reason="return",
            refunded_at=now,
        ),
    ]


def _fraud(now: str) -> Payload:
    return FraudDetected(
        case_id=_id("frd"),
        status="open",
        customer_id=_id("cus"),
        customer_external_id="sample-customer",
        related_customer_ids=[],
        rule=FraudRule(code="velocity.earn", id=_id("frule"), version=1),
        severity="medium",
        score=50,
        trigger=FraudTrigger(event_id=None, type="points.earned", object_id=_id("txn")),
        measurement=Measurement(
            aggregate="count", value=7, threshold=5, severity_ratio=1.4, window="PT1H", key_type="customer"
        ),
        evidence=[_id("txn")],
        action="flag",
        points_held=0,
        shadow=False,
        detected_at=now,
    )


def _churn(now: str) -> Payload:
    return ChurnRisk(
        customer_id=_id("cus"),
        customer_external_id="sample-customer",
        risk_level="medium",
        previous_level="low",
        score=0.71,
        threshold=ChurnThreshold(enter=0.6, high=0.8, exit=0.4),
        p_alive=0.29,
        p_purchase_horizon=0.06,
        horizon_days=90,
        features=ChurnFeatures(
            repeat_purchases=3, recency_days=41, age_days=310, days_since_last_purchase=269, typical_gap_days=34
        ),
        value=ChurnValue(lifetime_spend=41_200, currency="EUR", points_balance=820),
        model=ChurnModel(name="mbg_nbd", version="2026-11-22", fitted_customers=2357, fallback=False),
        scored_at=now,
    )
