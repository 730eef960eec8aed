"""What the evidence of a case is: the purchases, redemptions and other objects that it names."""

from typing import Final, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import is_id, made_at
from loyalpro.kernel.record import record
from loyalpro.loyalty.fraud.cases import FraudCase
from loyalpro.loyalty.fraud.ports import FraudUnit

EvidenceKind = Literal["purchase", "redemption", "refund", "adjustment", "customer"]

_KINDS: Final[dict[str, EvidenceKind]] = {
    "txn": "purchase",
    "red": "redemption",
    "ref": "refund",
    "adj": "adjustment",
    "led": "adjustment",
    "cus": "customer",
}


@record
class Evidence:
    """An object that a case names. `at`: when it happened, or was recorded.

    A purchase has its `amount`, in minor units of `currency`, the `points` that it earned, and its `external_id`; a redemption
    has its points.
    """

    id: str
    kind: EvidenceKind
    at: UnixMs
    customer_id: str | None = None
    amount: int | None = None
    currency: str | None = None
    points: int | None = None
    external_id: str | None = None


def evidence_of(unit: FraudUnit, case: FraudCase) -> list[Evidence]:
    """The evidence of a case, oldest first. What was removed since then is left with its kind and its time."""
    found = {each: Evidence(each, kind, made_at(each)) for each in case.evidence if (kind := _kind(each))}
    purchases = [each.id for each in found.values() if each.kind == "purchase"]
    redemptions = [each.id for each in found.values() if each.kind == "redemption"]
    for bought in unit.transactions.by_ids(case.account_id, purchases) if purchases else ():
        found[bought.id] = Evidence(
            bought.id,
            "purchase",
            bought.occurred_at,
            bought.customer_id,
            bought.amount,
            bought.currency,
            bought.points_earned,
            bought.external_id,
        )
    for redeemed in unit.redemptions.by_ids(case.account_id, redemptions) if redemptions else ():
        found[redeemed.id] = Evidence(
            redeemed.id,
            "redemption",
            redeemed.created_at,
            redeemed.customer_id,
            points=redeemed.points,
            external_id=redeemed.external_id,
        )
    return sorted(found.values(), key=lambda each: (each.at, each.id))


def _kind(id_: str) -> EvidenceKind | None:
    return next((kind for prefix, kind in _KINDS.items() if is_id(prefix, id_)), None)  # type: ignore[arg-type]
