"""What is decided about redemptions and rewards without a database: moves, codes, returns, and who can have a reward."""

import itertools
import random
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import Conflict, InvalidInput
from loyalpro.loyalty.entities import Redemption, RedemptionStatus, Reward
from loyalpro.loyalty.ledger import Lot
from loyalpro.loyalty.redemption_moves import TRANSITIONS, Move, is_overdue, is_to_be_made
from loyalpro.loyalty.redemptions import CODE_LETTERS, new_code
from loyalpro.loyalty.rewards import FIELDS_OF_TYPE, Order, require_valid, why_not, why_not_for
from loyalpro.loyalty.wallet import returns
from support.wallets import NOW, PROGRAM, REVERSAL, Stored, cause, credit, customer, earning, redeemed, with_policy

DAY = 86_400_000
STATUSES: tuple[RedemptionStatus, ...] = get_args(RedemptionStatus)
MOVES: tuple[Move, ...] = get_args(Move)


def redemption(status: RedemptionStatus, reserved_until: int | None = NOW + 1) -> Redemption:
    return Redemption(
        id="red_1",
        account_id="acct_1",
        customer_id="cus_1",
        reward_id=None,
        reward=None,
        points=10,
        status=status,
        transaction_id=None,
        code=None,
        external_id=None,
        reserved_until=reserved_until,
        captured_at=None,
        ended_at=None,
        actor="key:key_1",
        created_at=NOW,
        day=NOW // DAY,
    )


# -- moves -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "move"), list(itertools.product(STATUSES, MOVES)))
def test_a_move_is_made_from_one_status_and_repeated_in_another(status: RedemptionStatus, move: Move) -> None:
    """Every pair of a status and a move: it is made, or was made already, or is refused by the status that it needs."""
    transition = TRANSITIONS[move]
    if status in (transition.leaves, transition.becomes):
        assert is_to_be_made(move, redemption(status), NOW) == (status == transition.leaves)
        return
    with pytest.raises(Conflict) as refused:
        is_to_be_made(move, redemption(status), NOW)
    assert refused.value.code == f"redemption_not_{transition.leaves}"


def test_the_end_of_a_redemption_has_no_move() -> None:
    ends = {"reversed", "canceled", "expired"}
    assert {each.leaves for each in TRANSITIONS.values()} == set(STATUSES) - ends
    assert {each.becomes for each in TRANSITIONS.values()} == ends | {"redeemed"}


@pytest.mark.parametrize("move", MOVES)
def test_a_reservation_ends_at_the_instant_until_which_it_is_reserved(move: Move) -> None:
    assert not is_overdue(redemption("reserved"), NOW)
    assert is_overdue(redemption("reserved"), NOW + 1)
    assert not is_overdue(redemption("redeemed"), NOW + 1)
    if move == "expire":
        assert not is_to_be_made(move, redemption("reserved"), NOW + 1)
    else:
        with pytest.raises(Conflict, match="expired since"):
            is_to_be_made(move, redemption("reserved"), NOW + 1)


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_code_has_only_letters_that_look_like_no_other(length: int, seed: int) -> None:
    code = new_code(length, random.Random(seed).randbytes)
    assert code.startswith("LP-")
    assert len(code) == 3 + length
    assert set(code[3:]) <= set(CODE_LETTERS)
    assert not set(CODE_LETTERS) & set("01ILO")
    assert code == new_code(length, random.Random(seed).randbytes)


def test_codes_use_every_letter() -> None:
    rng = random.Random(1)
    seen = set("".join(new_code(4, rng.randbytes)[3:] for _ in range(1_000)))
    assert seen == set(CODE_LETTERS)


# -- returns -----------------------------------------------------------------------------------------------------------

spent_lots = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 60)), min_size=1, max_size=6)


@given(spent_lots, st.data())
def test_no_lot_gets_back_more_than_was_taken_whatever_dates_lots_get(
    shares: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Between two returns, lots get other dates and expire. What cannot go back comes in other lots; all comes back once."""
    left = {f"lot_{n}": share for n, (share, _) in enumerate(shares)}
    dates = {f"lot_{n}": day for n, (_, day) in enumerate(shares)}
    total, moved, back, now = sum(left.values()), 0, 0, 0
    while back < total:
        now += data.draw(st.integers(0, 20))
        dates |= data.draw(st.dictionaries(st.sampled_from(sorted(dates)), st.integers(1, 90), max_size=2))
        part = data.draw(st.integers(1, total - back))
        spent = [(_lot(id_, dates[id_]), share) for id_, share in left.items() if share]
        found = returns(spent, moved, part)
        assert sum(share for _, share in found) == part
        for lot, share in found:
            assert share <= left[lot.id]
            if lot.expires_at > now:
                left[lot.id] -= share
            else:
                moved += share
        back += part
    assert sum(left.values()) == moved


def _lot(id_: str, expires_at: int) -> Lot:
    return Lot(id_, "acct_1", "cus_1", "led_1", None, None, 100, 0, 1, None, expires_at, "active", 1)


def test_points_that_come_back_are_not_counted_as_redeemed() -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    wallet.earn(credit(100), earning(100), cause())
    entry = wallet.redeem(80, redeemed("red_1"), cause("redemption"))
    assert wallet.balance.lifetime_redeemed == 80
    stored.write(wallet)
    wallet = stored.wallet()
    spent = stored.spent(entry.id)
    wallet.lots.know([lot for lot, _ in spent])
    back = replace(REVERSAL, reverses_entry_id=entry.id)
    returned = wallet.put_back(30, returns(spent, 0, 30), cause("redemption"), back, NOW + 30 * DAY)
    assert wallet.balance.lifetime_redeemed == 50
    assert wallet.balance.lifetime_earned == 100
    assert returned.reverses_entry_id == entry.id
    stored.write(wallet)
    stored.check()


@pytest.mark.parametrize("way", ["give", "put_back"])
def test_without_activity_points_that_come_otherwise_expire_too(way: str) -> None:
    """All points expire a month after the last activity. Points that come after that have a date again."""
    stored = Stored(customer(), program=with_policy(kind="inactivity", n=1))
    wallet = stored.wallet()
    if way == "put_back":
        wallet.earn(credit(10), earning(10), cause())
        entry = wallet.redeem(10, redeemed("red_1"), cause("redemption"))
        stored.write(wallet)
        stored.unit.now += 40 * DAY
        wallet = stored.wallet()
        assert wallet.customer.points_expire_at is None
        spent = stored.spent(entry.id)
        wallet.lots.know([lot for lot, _ in spent])
        wallet.put_back(10, returns(spent, 0, 10), cause("redemption"), REVERSAL, stored.unit.now + 30 * DAY)
    else:
        wallet.give(credit(10), replace(REVERSAL, kind="manual"), cause("adjustment"))
    stored.write(wallet)
    assert stored.customer.balance.available == 10
    stored.unit.now += 40 * DAY
    wallet = stored.wallet()
    assert wallet.balance.available == 0
    stored.write(wallet)
    stored.check()


# -- rewards -----------------------------------------------------------------------------------------------------------


def reward(**fields: Any) -> Reward:
    stated: dict[str, Any] = {
        "id": "rew_1",
        "account_id": "acct_1",
        "name": "A coffee",
        "type": "custom",
        "amount": None,
        "currency": None,
        "percent": None,
        "sku": None,
        "cost_points": 10,
        "min_spend": None,
        "tier_ids": (),
        "tags": (),
        "stock": None,
        "limit_per_customer": None,
        "starts_at": None,
        "ends_at": None,
        "status": "active",
        "created_at": 1,
        "updated_at": 1,
    }
    return Reward(**stated | fields)


@pytest.mark.parametrize(
    ("fields", "redeemed_before", "reason"),
    [
        ({}, 5, None),
        ({"status": "draft"}, 0, "not_active"),
        ({"status": "archived"}, 0, "not_active"),
        ({"starts_at": NOW + 1}, 0, "not_started"),
        ({"starts_at": NOW}, 0, None),
        ({"ends_at": NOW}, 0, "ended"),
        ({"ends_at": NOW + 1}, 0, None),
        ({"tier_ids": (PROGRAM.tiers[1].id,)}, 0, "tier"),
        ({"tier_ids": (PROGRAM.tiers[0].id,)}, 0, None),
        ({"tags": ("press",)}, 0, "tags"),
        ({"tags": ("press", "vip")}, 0, None),
        ({"limit_per_customer": 2}, 1, None),
        ({"limit_per_customer": 2}, 2, "limit_reached"),
        ({"stock": 0}, 0, "out_of_stock"),
        ({"stock": 1}, 0, None),
    ],
)
def test_who_can_have_a_reward(fields: Any, redeemed_before: int, reason: str | None) -> None:
    found = why_not(reward(**fields), replace(customer(), tags=("vip", "x")), redeemed_before, NOW)
    assert (found and found.reason) == reason
    assert found is None or found.detail.endswith(".")


@pytest.mark.parametrize(
    ("fields", "order", "reason"),
    [
        ({}, None, None),
        ({}, Order(0, "JPY"), None),
        ({"min_spend": 100}, None, "min_spend"),
        ({"min_spend": 100}, Order(99, "EUR"), "min_spend"),
        ({"min_spend": 100}, Order(100, "EUR"), None),
        ({"min_spend": 100}, Order(100, "USD"), "currency"),
        ({"amount": 5, "currency": "USD"}, Order(1, "EUR"), "currency"),
        ({"amount": 5, "currency": "USD"}, Order(1, "USD"), None),
        ({"amount": 5, "currency": "USD"}, None, None),
        ({"amount": 5, "currency": "USD", "min_spend": 100}, Order(100, "USD"), None),
    ],
)
def test_for_which_orders_a_reward_is(fields: Any, order: Order | None, reason: str | None) -> None:
    found = why_not_for(reward(**fields), order, PROGRAM)
    assert (found and found.reason) == reason


@given(
    st.sampled_from(sorted(FIELDS_OF_TYPE)),
    st.fixed_dictionaries(
        {},
        optional={"amount": st.just(5), "currency": st.just("EUR"), "percent": st.just(10), "sku": st.just("A")},
    ),
)
def test_a_reward_states_exactly_the_fields_of_its_type(type_: Any, fields: dict[str, Any]) -> None:
    made = reward(type=type_, **fields)
    if set(fields) == set(FIELDS_OF_TYPE[type_]):
        require_valid(made, PROGRAM)
        return
    with pytest.raises(InvalidInput) as refused:
        require_valid(made, PROGRAM)
    assert refused.value.param in set(fields) ^ set(FIELDS_OF_TYPE[type_])
    assert refused.value.code == ("invalid_field" if refused.value.param in fields else "missing_field")
