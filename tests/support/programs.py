"""Other rules for the program of an account."""

from dataclasses import replace
from typing import Any, Final

import msgspec

from loyalpro.loyalty.program import Rules
from loyalpro.storage.tables.programs import ProgramTables
from support.history import transaction

_NEXT_VERSION: Final = (
    "INSERT INTO program_versions (account_id, version, schema, rules, actor, created_at)"
    " SELECT account_id, version + 1, schema, ?, actor, created_at FROM program_versions"
    " WHERE account_id = ? AND version = ?"
)


def change_rules(url: str, account_id: str | None = None, **changes: Any) -> Rules:
    """Put rules into force that differ so from those before, for purchases from now on.

    Without `account_id`, in the only account that the database has.
    """
    with transaction(url) as connection:
        account_id = account_id or connection.execute("SELECT id FROM accounts")[0][0]
        before = ProgramTables(connection).get(account_id)
        rules = replace(before.rules, **changes)
        text = msgspec.json.encode(rules).decode()
        connection.execute(_NEXT_VERSION, (text, account_id, before.version))
        connection.execute(
            "UPDATE programs SET version = version + 1 WHERE account_id = ? AND version = ?",
            (account_id, before.version),
        )
    return rules
