import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import ConfigurationError
from loyalpro.storage.vault import Vault

OLD, NEW = "an old key of 32 characters ....", "a new key of 32 characters ....."


def vault(*keys: str) -> Vault:
    return Vault(keys, random.Random(1).randbytes)


@given(st.text(), st.text())
def test_a_sealed_secret_opens_for_its_owner(secret: str, owner: str) -> None:
    try:
        sealed = vault(NEW).seal(secret, owner=owner)
    except UnicodeEncodeError:
        return
    assert vault(NEW, OLD).open(sealed, owner=owner) == secret
    assert len(secret) < 4 or secret.encode() not in sealed


def test_a_vault_with_a_new_key_opens_older_secrets_and_seals_with_the_new_key() -> None:
    sealed = vault(OLD).seal("whsec_1", owner="acct/we")
    both = vault(NEW, OLD)
    assert both.open(sealed, owner="acct/we") == "whsec_1"
    with pytest.raises(ConfigurationError, match="LOYALPRO_SECRET_KEY"):
        vault(OLD).open(both.seal("whsec_2", owner="acct/we"), owner="acct/we")


def test_a_sealed_secret_that_is_damaged_or_of_another_owner_does_not_open() -> None:
    sealed = vault(NEW).seal("whsec_1", owner="acct/we")
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for candidate, owner in (
        (sealed, "acct/other"),
        (changed, "acct/we"),
        (sealed[:4], "acct/we"),
        (sealed[:20], "acct/we"),
    ):
        with pytest.raises(ConfigurationError, match="is damaged, or belongs to another endpoint"):
            vault(NEW).open(candidate, owner=owner)


@pytest.mark.parametrize("keys", [(), ("short",), (NEW, "short")])
def test_short_and_missing_keys_are_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="at least 16"):
        vault(*keys)
