"""Any sequence of commands about keys, on both stores: only an active key is accepted, and one that manages keys remains."""

import contextlib
import itertools
from typing import ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.accounts.api_keys import (
    CreatedKey,
    CreateKey,
    ListKeys,
    RevokeKey,
    authenticate_key,
    create_key,
    list_keys,
    revoke_key,
)
from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import Conflict, Forbidden, Unauthenticated
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.history import keeping_connections, transaction
from support.units import tools

_seeds = itertools.count(1)

scopes = st.lists(st.sampled_from(SCOPES), min_size=1, unique=True)
lives_s = st.none() | st.integers(1, 100)
limits = st.none() | st.integers(1, 3)


class Keys(RuleBasedStateMachine):
    """One example: an account of its own, whose first key has every right."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.tools = tools(next(_seeds), clock=self.clock)
        self.made: dict[str, CreatedKey] = {}
        self.revoked: set[str] = set()
        with transaction(self.url) as connection:
            unit = UnitOfWork(connection, self.tools)
            self.account_id = create_account(unit, CreateAccount("A")).id
            self.note(create_key(unit, CreateKey(self.account_id, "first", SCOPES)))

    def note(self, created: CreatedKey) -> None:
        assert created.api_key not in {each.api_key for each in self.made.values()}
        self.made[created.key.id] = created

    def is_active(self, key: ApiKey) -> bool:
        return key.id not in self.revoked and (key.expires_at is None or key.expires_at > self.clock.now_ms())

    def managers(self) -> list[ApiKey]:
        return [each.key for each in self.made.values() if "admin" in each.key.scopes and self.is_active(each.key)]

    @precondition(lambda self: self.managers())
    @rule(data=st.data(), wanted=scopes, life_s=lives_s, limit=limits)
    def create_with_a_key(self, data: st.DataObject, wanted: list[str], life_s: int | None, limit: int | None) -> None:
        creator = data.draw(st.sampled_from(self.managers()))
        end = None if life_s is None else self.clock.now_ms() + life_s * 1_000
        command = CreateKey(self.account_id, "k", wanted, end, limit, creator)
        more = (
            not set(wanted) <= set(creator.scopes)
            or (creator.expires_at is not None and (end is None or end > creator.expires_at))
            or (creator.requests_per_minute is not None and (limit is None or limit > creator.requests_per_minute))
        )
        try:
            with transaction(self.url) as connection:
                created = create_key(UnitOfWork(connection, self.tools), command)
        except Forbidden:
            assert more
        else:
            assert not more
            self.note(created)

    @rule(data=st.data(), by_operator=st.booleans())
    def revoke(self, data: st.DataObject, *, by_operator: bool) -> None:
        key_id = data.draw(st.sampled_from(sorted(self.made)))
        last = [each.id for each in self.managers()] == [key_id]
        command = RevokeKey(self.account_id, key_id, keep_admin=not by_operator)
        refused = False
        try:
            with transaction(self.url) as connection:
                revoke_key(UnitOfWork(connection, self.tools), command)
        except Conflict:
            refused = True
        assert refused == (last and not by_operator)
        if not refused:
            self.revoked.add(key_id)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule()
    def create_as_the_operator(self) -> None:
        with transaction(self.url) as connection:
            self.note(create_key(UnitOfWork(connection, self.tools), CreateKey(self.account_id, "rescue", ["admin"])))

    @invariant()
    def exactly_the_active_keys_are_accepted(self) -> None:
        with transaction(self.url) as connection:
            unit = UnitOfWork(connection, self.tools)
            accepted = set()
            for each in self.made.values():
                with contextlib.suppress(Unauthenticated):
                    accepted.add(authenticate_key(unit, each.api_key).id)
            assert accepted == {each.key.id for each in self.made.values() if self.is_active(each.key)}
            listed = list_keys(unit, ListKeys(self.account_id, None, 1_000))
            assert {each.id for each in listed if each.status(unit.now) == "active"} == accepted
            assert {each.id for each in listed} == self.made.keys()


def test_any_sequence_of_commands_leaves_only_active_keys_accepted(databases: Databases, store: str) -> None:
    Keys.url = databases.fresh(store)
    with keeping_connections(Keys.url):
        run_state_machine_as_test(
            Keys,
            settings=settings(max_examples=8, stateful_step_count=20, deadline=None, phases=[Phase.generate]),
        )
