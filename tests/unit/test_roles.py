"""What each role may do."""

from dataclasses import dataclass
from typing import get_args

import pytest

from loyalpro.accounts.roles import ROLE_NAMES, ROLES, Right, Role, require_right
from loyalpro.kernel.errors import Forbidden

MATRIX = """
endpoints.see       owner developer support viewer
endpoints.change    owner developer
deliveries.resend   owner developer support
secrets             owner developer
keys                owner developer
customers.see       owner developer support viewer
customers.see_full  owner developer support
customers.change    owner support
customers.delete    owner
fraud.see           owner developer support viewer
fraud.change        owner support
imports.see         owner developer support viewer
imports.change      owner support
rewards.see         owner developer support viewer
rewards.change      owner support
rules.see           owner developer viewer
rules.change        owner
audit               owner
export              owner
members             owner
account             owner
"""


@dataclass(frozen=True)
class _Member:
    role: Role


def _rows() -> dict[str, list[str]]:
    return {right: roles for right, *roles in map(str.split, MATRIX.strip().splitlines())}


def test_each_right_belongs_to_the_roles_of_the_matrix() -> None:
    assert {right: [role for role in ROLE_NAMES if right in ROLES[role]] for right in get_args(Right)} == _rows()


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_member_passes_with_a_right_and_is_refused_without_it(role: Role) -> None:
    for right in get_args(Right):
        if role in _rows()[right]:
            require_right(_Member(role), right)
        else:
            with pytest.raises(Forbidden) as refused:
                require_right(_Member(role), right)
            assert refused.value.code == "insufficient_role"
            assert role in refused.value.detail
