"""The rules of signing secrets: which one waits for the receiver, when older ones end, and how many there may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict
from loyalpro.webhooks.entities import Secret
from loyalpro.webhooks.secrets import (
    MOST_SECRETS,
    end_of_overlap,
    is_waiting,
    previous_expires_at,
    require_capacity,
    require_rotation,
    rotation_ends_at,
)

NOW = 1_763_980_200_000
INSTANTS = st.integers(NOW, NOW + 10**9)


def secrets(*older_expire_at: UnixMs, newest_promoted: bool) -> list[Secret]:
    """Valid secrets, newest first. The newest one never expires, and all older ones are promoted."""
    newest = Secret(len(older_expire_at) + 1, None, NOW if newest_promoted else None)
    versions = range(len(older_expire_at), 0, -1)
    return [newest, *(Secret(version, at, NOW) for version, at in zip(versions, older_expire_at, strict=True))]


@pytest.mark.parametrize(
    ("valid", "waiting"),
    [
        ([], False),
        (secrets(newest_promoted=True), False),
        (secrets(newest_promoted=False), False),
        (secrets(NOW + 1, newest_promoted=True), False),
        (secrets(NOW + 1, newest_promoted=False), True),
        (secrets(NOW + 2, NOW + 1, newest_promoted=False), True),
    ],
)
def test_the_newest_secret_waits_while_it_is_not_promoted_and_an_older_one_is_valid(
    valid: list[Secret], *, waiting: bool
) -> None:
    assert is_waiting(valid) is waiting


def test_a_secret_that_is_not_promoted_waits_behind_another_that_is_not_promoted() -> None:
    assert is_waiting([Secret(2, None, None), Secret(1, NOW + 1, None)])


@given(ends=st.lists(INSTANTS, max_size=MOST_SECRETS - 1), newest_promoted=st.booleans())
def test_older_secrets_end_with_the_last_of_them(*, ends: list[UnixMs], newest_promoted: bool) -> None:
    assert previous_expires_at(secrets(*ends, newest_promoted=newest_promoted)) == max(ends, default=None)


def test_an_older_secret_without_an_end_is_left_out() -> None:
    assert previous_expires_at([Secret(3, None, NOW), Secret(2, None, NOW), Secret(1, NOW + 5, NOW)]) == NOW + 5


@given(ends=st.lists(INSTANTS, max_size=MOST_SECRETS - 1), newest_promoted=st.booleans())
def test_a_rotation_ends_with_the_older_secrets_while_the_newest_one_waits(
    *, ends: list[UnixMs], newest_promoted: bool
) -> None:
    valid = secrets(*ends, newest_promoted=newest_promoted)
    assert rotation_ends_at(valid) == (max(ends) if ends and not newest_promoted else None)


@pytest.mark.parametrize("overlap_s", [1, 86_400])
@pytest.mark.parametrize("count", range(MOST_SECRETS + 2))
def test_a_secret_is_refused_when_there_are_five_already(count: int, overlap_s: int) -> None:
    valid = secrets(*range(NOW, NOW + count), newest_promoted=True)[:count]
    if count < MOST_SECRETS:
        require_capacity(valid, overlap_s)
        return
    with pytest.raises(Conflict) as refused:
        require_capacity(valid, overlap_s)
    assert refused.value.code == "too_many_secrets"


def test_an_overlap_of_0_makes_room_for_the_new_secret() -> None:
    require_capacity(secrets(*range(NOW, NOW + MOST_SECRETS), newest_promoted=True), 0)


@pytest.mark.parametrize(("overlap_s", "end"), [(0, NOW), (1, NOW + 1_000), (86_400, NOW + 86_400_000)])
def test_an_overlap_is_in_seconds_and_its_end_in_milliseconds(overlap_s: int, end: UnixMs) -> None:
    assert end_of_overlap(NOW, overlap_s) == end


@pytest.mark.parametrize("valid", [[], secrets(newest_promoted=True), secrets(NOW + 1, newest_promoted=True)])
def test_a_rotation_that_is_not_under_way_cannot_be_finished(valid: list[Secret]) -> None:
    require_rotation(secrets(NOW + 1, newest_promoted=False))
    with pytest.raises(Conflict) as refused:
        require_rotation(valid)
    assert (refused.value.code, refused.value.param) == ("no_rotation", "promote")
