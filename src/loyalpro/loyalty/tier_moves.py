"""Moves customers between tiers: at once when they qualify, down at a review, by hand, and when the program changes.

Each move emits one `customer.tier_changed`, whatever tiers lie between, and none is emitted when the tier stays.
"""

from collections.abc import Mapping, Sequence

from loyalpro.events.customer import CustomerTierChanged, NextTier, Qualification, TierReason
from loyalpro.events.customer import Tier as TierShown
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import Day, day_of, day_start
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.qualifying import Qualifying, QualifyingUnit, Standing, missing
from loyalpro.loyalty.tiers import (
    ALL_DAYS,
    Tier,
    is_locked,
    judged_day,
    next_review_at,
    qualified,
    raised,
    review_at,
    review_deadline,
    reviewed,
)
from loyalpro.loyalty.wallet import Wallet


class TierMoves:
    """Moves the customers of one book. `wallets`: all of them, so that what their tiers depend on is read together."""

    def __init__(self, unit: QualifyingUnit, program: Program, wallets: Mapping[str, Wallet]) -> None:
        self._unit = unit
        self._program = program
        self._wallets = wallets
        self._policy = program.rules.tiering
        self._time_zone = program.rules.time_zone
        self._qualifying = Qualifying(unit, program)
        self._read_for = 0  # how many wallets there were when their windows were read

    def upgrade(self, wallet: Wallet) -> None:
        """Move a customer up to the highest tier that it qualifies for. To be called after what counts toward tiers.

        The first customer that may qualify has the windows of all others read with its own, in one statement.
        """
        if self._may_rise(wallet):
            if self._read_for != len(self._wallets):
                self._read_for = len(self._wallets)
                self._qualifying.read(filter(self._can_rise, self._wallets.values()))
            self._rise(wallet, "qualified")

    def is_earned(self, wallet: Wallet) -> bool:
        """Whether a refund may take the tier: refunds lower tiers at once, no lock holds, and purchases have earned the tier.

        To be asked before the refund changes anything.
        """
        if self._program.rules.refunds.tier != "immediate" or self._is_held(wallet.profile):
            return False
        return qualified(self._program.tiers, self._since(wallet).value).rank >= wallet.profile.tier.rank

    def lower(self, wallet: Wallet) -> None:
        """Move a customer down after a refund, to the tier that it would have without the refunded purchase.

        To be called if the tier was earned before the refund.
        """
        standing = self._since(wallet)
        best = qualified(self._program.tiers, standing.value)
        if best.rank < wallet.profile.tier.rank:
            self._move(wallet, best, "refund", standing, self._review_at(wallet.profile, best))

    def assign(self, wallet: Wallet, tier: Tier, *, locked_until: UnixMs | None, lock_reason: str | None) -> None:
        """Put a customer into a tier by hand. Until `locked_until` nothing else moves it; then its tier is reviewed."""
        review = self._review_at(wallet.profile, tier) if locked_until is None else locked_until
        self._move(wallet, tier, "manual", self._qualifying.standing(wallet), review)
        wallet.change_state(tier_review_at=review, tier_locked_until=locked_until, tier_lock_reason=lock_reason)

    def keep_higher(self, wallet: Wallet, tier: Tier) -> None:
        """Give a customer the highest of three tiers after another one was merged into it.

        They are its own, that of the other one, and the one that it qualifies for with the days of both, which are stored.
        """
        standing, current = self._qualifying.standing(wallet), wallet.profile.tier
        best = raised(self._program.tiers, max(current, tier, key=_place), standing.value)
        if _place(best) > _place(current):
            self._move(wallet, best, "merged", standing, self._review_at(wallet.profile, best))

    def review(self, wallets: Sequence[Wallet]) -> int:
        """Review the customers whose review is due, and return how many. A lock puts a review off to its end."""
        deadline = review_deadline(self._policy, self._unit.now, self._time_zone)
        due = {each: at for each in wallets if (at := each.profile.tier_review_at) is not None and at <= deadline}
        judged = {each.id: judged_day(at, self._time_zone) for each, at in due.items()}
        self._qualifying.read(due, judged)
        self._qualifying.read(due)
        for wallet, at in due.items():
            self._review(wallet, at, judged[wallet.id])
        return len(due)

    def reevaluate(self, wallets: Sequence[Wallet]) -> None:
        """Apply changed tiers: move customers up at once, and out of retired tiers.

        A customer whose tier has become too high keeps it until the review, and gets a review if it had none.
        """
        rising = [each for each in wallets if self._may_rise(each)]
        self._qualifying.read(rising)
        for wallet in rising:
            self._rise(wallet, "program_changed")
        for wallet in wallets:
            self._plan_review(wallet)

    # -- which customers move ----------------------------------------------------------------------------------------

    def _may_rise(self, wallet: Wallet) -> bool:
        """Whether the standing decides. All points that were ever earned are at least those of any window."""
        if not self._can_rise(wallet):
            return False
        tier = wallet.profile.tier
        following = self._program.next_tier(tier)
        if tier.retired_at is not None or following is None or self._policy.metric != "points_earned":
            return True
        return wallet.balance.lifetime_earned >= following.threshold

    def _can_rise(self, wallet: Wallet) -> bool:
        """Whether any standing moves the customer."""
        customer = wallet.profile
        if self._is_held(customer):
            return False
        return customer.tier.retired_at is not None or self._program.next_tier(customer.tier) is not None

    def _is_held(self, customer: Customer) -> bool:
        """Whether a lock keeps the customer in its tier. None does in a retired one."""
        return is_locked(customer.tier_locked_until, self._unit.now) and customer.tier.retired_at is None

    def _since(self, wallet: Wallet) -> Standing:
        """The better one of today's standing and that of the day on which the customer got its tier."""
        return self._better(wallet, day_of(wallet.profile.tier_since, self._time_zone))

    def _better(self, wallet: Wallet, day: Day) -> Standing:
        """The better one of today's standing and that of another day."""
        other, today = self._qualifying.standing(wallet, day), self._qualifying.standing(wallet)
        return other if other.value > today.value else today

    # -- the steps that moves share ----------------------------------------------------------------------------------

    def _rise(self, wallet: Wallet, reason: TierReason) -> None:
        standing, current = self._qualifying.standing(wallet), wallet.profile.tier
        tier = raised(self._program.tiers, current, standing.value)
        why: TierReason = reason if current.retired_at is None else "program_changed"
        self._move(wallet, tier, why, standing, self._review_at(wallet.profile, tier))

    def _review(self, wallet: Wallet, at: UnixMs, judged: Day) -> None:
        customer = wallet.profile
        if self._is_held(customer):
            wallet.change_state(tier_review_at=customer.tier_locked_until)
            return
        standing = self._better(wallet, judged)
        tier = reviewed(self._program.tiers, customer.tier, standing.value, self._policy.downgrade)
        following = None if self._is_lowest(tier) else self._after(customer, at)
        self._move(wallet, tier, self._reason(customer.tier, tier), standing, following)
        wallet.change_state(tier_review_at=following, tier_locked_until=None, tier_lock_reason=None)

    def _reason(self, before: Tier, after: Tier) -> TierReason:
        """Why a review moves a customer."""
        if after.rank > before.rank:
            return "qualified"
        return "grace_ended" if self._policy.grace_days else "period_review"

    def _plan_review(self, wallet: Wallet) -> None:
        """Give a customer a review if it has none and needs one; take it away if there is nothing to review.

        The review at the end of a lock stays.
        """
        customer = wallet.profile
        if customer.tier_locked_until is not None:
            return
        review = self._review_at(customer, customer.tier)
        if (customer.tier_review_at is None) != (review is None):
            wallet.change_state(tier_review_at=review)

    def _move(
        self, wallet: Wallet, tier: Tier, reason: TierReason, standing: Standing, reviewed_at: UnixMs | None
    ) -> None:
        """Move a customer, and end its lock; nothing if it has the tier."""
        customer = wallet.profile
        if tier.id == customer.tier.id:
            return
        now = self._unit.now
        wallet.change_state(
            tier=tier, tier_since=now, tier_review_at=reviewed_at, tier_locked_until=None, tier_lock_reason=None
        )
        wallet.emit(
            CustomerTierChanged(
                customer_id=customer.id,
                customer_external_id=customer.external_id,
                direction="upgrade" if _place(tier) >= _place(customer.tier) else "downgrade",
                previous_tier=_shown(customer.tier),
                tier=_shown(tier),
                reason=reason,
                qualification=self._qualification(tier, standing),
                effective_at=rfc3339(now),
                tier_expires_at=None if reviewed_at is None else rfc3339(reviewed_at),
                next_tier=self._next_tier(tier, standing),
            )
        )

    def _qualification(self, tier: Tier, standing: Standing) -> Qualification:
        start, end = window_instants(standing, self._time_zone)
        return Qualification(
            metric=self._policy.metric,
            value=standing.value,
            threshold=tier.threshold,
            window_start=start,
            window_end=end,
        )

    def _next_tier(self, tier: Tier, standing: Standing) -> NextTier | None:
        following = self._program.next_tier(tier)
        if following is None:
            return None
        return NextTier(id=following.id, name=following.name, remaining=missing(following, standing.value))

    def _review_at(self, customer: Customer, tier: Tier) -> UnixMs | None:
        """When a tier is reviewed that a customer gets today. There is nothing below the lowest tier."""
        if self._is_lowest(tier):
            return None
        return review_at(self._policy, self._qualifying.today, self._enrolled_on(customer), self._time_zone)

    def _after(self, customer: Customer, at: UnixMs) -> UnixMs | None:
        """When the tier is reviewed after the review of the instant `at`."""
        return next_review_at(self._policy, at, self._unit.now, self._enrolled_on(customer), self._time_zone)

    def _enrolled_on(self, customer: Customer) -> Day:
        return day_of(customer.created_at, self._time_zone)

    def _is_lowest(self, tier: Tier) -> bool:
        return tier.id == self._program.tiers[0].id


def window_instants(standing: Standing, time_zone: str) -> tuple[str | None, str | None]:
    """The first instant of a window and the first one after it, in RFC 3339; None for a lifetime, which has neither."""
    if (standing.first, standing.last) == ALL_DAYS:
        return None, None
    return rfc3339(day_start(standing.first, time_zone)), rfc3339(day_start(standing.last + 1, time_zone))


def _place(tier: Tier) -> tuple[int, int]:
    """The order of tiers, also of a retired one whose rank another tier has."""
    return tier.rank, tier.threshold


def _shown(tier: Tier) -> TierShown:
    return TierShown(id=tier.id, name=tier.name, rank=tier.rank)
