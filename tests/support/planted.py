"""An account with one object of each kind, made through the API; and everything that a database holds."""

import re
from typing import Any, Final

from loyalpro.kernel.clock import MS_PER_DAY, rfc3339
from support.history import query, transaction
from support.server import Server

ID: Final = re.compile(r"\b[a-z]{2,6}_[0-9a-z]{26,40}\b")
_CHANGING_BY_THEMSELVES: Final = {
    "workers", "leases", "job_runs", "key_uses", "backlog_scans", "schema_migrations", "sqlite_sequence", "sqlite_stat1",
}  # fmt: skip
"""Tables of the processes, not of accounts."""


class Planting:
    """Plants objects whose texts contain a word."""

    def __init__(self, server: Server, key: str, word: str) -> None:
        self._server, self._key, self._word = server, key, word
        self._now = server.application.clock.now_ms()

    def post(self, path: str, body: Any = None, method: str = "POST") -> Any:
        """Make a call that succeeds."""
        answer = self._server.call(method, path, body, key=self._key)
        assert 200 <= answer.status < 300, (path, answer.raw)
        return answer.json

    def get(self, path: str) -> Any:
        return self.post(path, method="GET")

    def until(self, path: str, field: str, *values: str) -> Any:
        """Read an object until its field has one of these values, while the virtual clock of the server moves on."""
        clock: Any = self._server.application.clock
        while (found := self.get(path))[field] not in values:
            self._server.loop.call_soon_threadsafe(clock.advance, 0.2)
        return found

    def everything(self) -> dict[str, str]:
        """One object of each kind; their ids by the name that paths and bodies have for them."""
        ids = {"code": "velocity.redeem", "external_id": f"{self._word}-1"} | self._configuration() | self._sales()
        ids |= self._spending(ids) | self._jobs()
        ids["case_id"] = self.get("/v1/fraud/cases")["data"][0]["id"]
        self._server.wait_until_listed()
        ids["event_id"] = self.get("/v1/events")["data"][0]["id"]
        ids["delivery_id"] = self.get("/v1/deliveries")["data"][0]["id"]
        replay = self.post(f"/v1/webhook_endpoints/{ids['endpoint_id']}/replay", {"since": rfc3339(self._now)})
        self.until(f"/v1/webhook_endpoints/{ids['endpoint_id']}/replays/{replay['id']}", "status", "done")
        self._notice(ids["endpoint_id"])
        return ids | {"replay_id": replay["id"]}

    def _configuration(self) -> dict[str, str]:
        word = self._word
        endpoint = {
            "url": f"https://localhost:1024/{word}", "events": ["*"], "description": word, "status": "paused",
            "headers": {f"X-{word}": word},
        }  # fmt: skip
        program = self.post("/v1/program", {"point_value": "0.01", "note": word}, "PATCH")
        self.post("/v1/fraud/rules/velocity.redeem", {"score": 61}, "PUT")
        self.post("/v1/churn/settings", {"horizon_days": 91}, "PUT")
        campaign = {"name": word, "kind": "bonus", "points": 1, "status": "paused"}
        return {
            "version": str(program["version"]),
            "tier_id": program["tiers"][0]["id"],
            "rule_id": program["earning"]["rules"][0]["id"],
            "endpoint_id": self.post("/v1/webhook_endpoints", endpoint)["id"],
            "campaign_id": self.post("/v1/campaigns", campaign)["id"],
            "reward_id": self.post("/v1/rewards", {"name": word, "type": "custom", "cost_points": 1})["id"],
            "key_id": self.post("/v1/api_keys", {"name": word, "scopes": ["read"]})["id"],
        }

    def _sales(self) -> dict[str, str]:
        """A customer with purchases of long ago, which have a churn score, and many of today, which open a fraud case."""
        word = self._word
        person = {
            "external_id": f"{word}-1", "name": word, "email": f"{word}@example.com", "phone": "+44 79 1234",
            "tags": [word], "metadata": {word: word},
        }  # fmt: skip
        customer = self.post("/v1/customers", person)["id"]
        sale = {"customer_id": customer, "amount": 1_000, "currency": "EUR", "channel": word}
        days = [60, 50, 40, *[0] * 6]
        sales = [sale | {"occurred_at": rfc3339(self._now - day * MS_PER_DAY)} for day in days]
        done = self.post("/v1/transactions/batch", {"transactions": sales})["data"]
        assert {each["status"] for each in done} == {201}
        transaction_id = done[-1]["transaction"]["id"]
        self.post(f"/v1/transactions/{transaction_id}/refunds", {"amount": 100, "reason": word})
        return {"customer_id": customer, "transaction_id": transaction_id}

    def _spending(self, ids: dict[str, str]) -> dict[str, str]:
        path = f"/v1/customers/{ids['customer_id']}"
        given = {"points": 100, "reason_code": self._word, "note": self._word}
        self.post(f"{path}/adjustments", given)
        reserve = {"customer_id": ids["customer_id"], "reward_id": ids["reward_id"], "reserve": True}
        return {
            "redemption_id": self.post("/v1/redemptions", reserve)["id"],
            "lot_id": self.get(f"{path}/lots")["data"][0]["id"],
        }

    def _jobs(self) -> dict[str, str]:
        rows = [{"external_id": f"{self._word}-2"}, {"external_id": f"{self._word}-3", "email": self._word}]
        import_id = self.post("/v1/imports", {"kind": "customers", "rows": rows})["id"]
        export_id = self.post("/v1/exports", {"kind": "customers"})["id"]
        run_id = self.post("/v1/churn/runs", {"baseline": True})["id"]
        self.until(f"/v1/imports/{import_id}", "status", "done")
        self.until(f"/v1/exports/{export_id}", "status", "done")
        self.until(f"/v1/churn/runs/{run_id}", "status", "done")
        assert self.get("/v1/churn/scores")["data"]
        return {"import_id": import_id, "export_id": export_id, "run_id": run_id}

    def _notice(self, endpoint_id: str) -> None:
        sql = (
            "INSERT INTO notices (id, account_id, endpoint_id, kind, detail, created_at)"
            " SELECT 'ntc_' || substr(?, 4), account_id, id, 'endpoint_failing', ?, created_at FROM endpoints WHERE id = ?"
        )
        query(self._server.application.settings.url, sql, endpoint_id, self._word, endpoint_id)
        assert self.get("/v1/notices")["data"]


def stored_rows(url: str, *without: str) -> dict[str, list[str]]:
    """All rows of the tables of accounts, as sorted texts by table, except the tables `without`."""
    if url.startswith("sqlite"):
        tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
    else:
        tables = (
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
            " AND relnamespace = 'public'::regnamespace"
        )
    with transaction(url) as connection:
        names = {name for (name,) in connection.execute(tables)} - _CHANGING_BY_THEMSELVES - {*without}
        rows = {name: connection.execute(f"SELECT * FROM {name}") for name in sorted(names)}
    return {name: sorted(map(repr, found)) for name, found in rows.items()}


def ids_in(rows: dict[str, list[str]]) -> set[str]:
    """Every id of an object in these rows."""
    return {id_ for found in rows.values() for row in found for id_ in ID.findall(row)}
