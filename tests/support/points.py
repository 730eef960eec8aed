"""Customers of a server with points, and the check that their ledgers add up."""

import itertools
from typing import Any

from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.ledger import discrepancies
from support.server import Answer, Server

_COUNT = itertools.count(1)


class Member:
    """A customer of a server."""

    def __init__(self, server: Server, *lots: int | tuple[int, str]) -> None:
        """`lots`: points that the customer is given, each until an instant or by the policy of the program."""
        self.server = server
        self.external_id = f"member-{next(_COUNT)}"
        self.id: str = server.post("/v1/customers", {"external_id": self.external_id})["id"]
        for lot in lots:
            points, expires_at = (lot, None) if isinstance(lot, int) else lot
            self.adjusted(points, expires_at=expires_at)

    def adjust(self, points: int, **fields: Any) -> Answer:
        body = {"points": points, "reason_code": "test"} | fields
        return self.server.call("POST", f"/v1/customers/{self.id}/adjustments", body)

    def adjusted(self, points: int, **fields: Any) -> Any:
        answer = self.adjust(points, **fields)
        assert answer.status == 201, answer.raw
        return answer.json

    def redeem(self, **fields: Any) -> Answer:
        return self.server.call("POST", "/v1/redemptions", {"customer_id": self.id} | fields)

    def redeemed(self, **fields: Any) -> Any:
        answer = self.redeem(**fields)
        assert answer.status == 201, answer.raw
        return answer.json

    def buy(self, amount: int, **fields: Any) -> Any:
        body = {"customer_id": self.id, "amount": amount, "currency": "EUR"} | fields
        return self.server.post("/v1/transactions", body)

    @property
    def points(self) -> dict[str, int]:
        found: dict[str, int] = self.server.get(f"/v1/customers/{self.id}")["points"]
        return found

    @property
    def available(self) -> int:
        return self.points["available"]

    def lots(self) -> list[tuple[int, int]]:
        """What each lot held at first and holds now, oldest first."""
        found = self.server.get(f"/v1/customers/{self.id}/lots?limit=100")["data"]
        return [(each["original"], each["remaining"]) for each in reversed(found)]

    def entries(self) -> list[tuple[str, int, int]]:
        """The type, the points and the balance after each entry, oldest first."""
        found = self.server.get(f"/v1/customers/{self.id}/ledger?limit=100")["data"]
        return [(each["type"], each["points"], each["balance_after"]) for each in reversed(found)]

    def events(self, type_: str = "") -> list[dict[str, Any]]:
        """The data of the customer's events of this type, oldest first."""
        found = self.server.listed(f"/v1/events?customer_id={self.id}&limit=100")["data"]
        return [each["data"] for each in found if each["type"].startswith(type_)]

    def audited(self, object_id: str) -> list[str]:
        """The actions of the audit log about an object, oldest first."""
        found = self.server.get(f"/v1/audit_log?object_id={object_id}")["data"]
        return [each["action"] for each in reversed(found)]

    def totals(self) -> dict[str, int]:
        """What all days of the customer add up to."""
        sql = (
            "SELECT CAST(SUM(redemptions) AS BIGINT), CAST(SUM(points_redeemed) AS BIGINT),"
            " CAST(SUM(points_qualifying) AS BIGINT) FROM customer_days WHERE customer_id = ?"
        )
        [row] = self.server.run(
            self.server.application.runner.read(lambda unit: unit.connection.execute(sql, (self.id,)))
        )
        return dict(zip(("redemptions", "points_redeemed", "points_qualifying"), row, strict=True))

    def check(self, *, with_events: bool = True) -> None:
        """The ledger adds up, and every entry has its event. `with_events`: whether none is so old that it was removed."""

        def read(unit: Any) -> None:
            [(account_id,)] = unit.connection.execute("SELECT account_id FROM customers WHERE id = ?", (self.id,))
            customer = get_customer(unit, GetCustomer(account_id, self.id))
            entries = sorted(unit.ledger.list_entries(self.id, None, 10_000), key=lambda entry: entry.sequence)
            lots, allocations = unit.ledger.list_lots(self.id, None, 10_000), unit.ledger.list_allocations(self.id)
            assert discrepancies(customer.balance, entries, lots, allocations) == []
            told = unit.connection.execute(
                "SELECT COUNT(*) FROM events WHERE customer_id = ? AND type LIKE 'points.%'", (self.id,)
            )
            assert not with_events or told == [(len([each for each in entries if each.type != "activate"]),)]

        self.server.run(self.server.application.runner.read(read))


def refused(answer: Answer, status: int, code: str, param: str | None = None) -> Any:
    """The problem of a refusal, which has this status, code and field."""
    problem = answer.json
    assert (answer.status, problem["code"], problem.get("param")) == (status, code, param), answer.raw
    return problem
