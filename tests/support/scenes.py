"""What pages are looked at with: a server whose account has members who are signed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loyalpro.accounts.roles import Role
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, rfc3339
from loyalpro.storage.unit_of_work import UnitOfWork
from support.members import add_member, first_account_id, signed_in
from support.server import Server

NAMES: dict[Role, str] = {
    "owner": "Marta Lind",
    "developer": "Jonas Keller",
    "support": "Ada Brandt",
    "viewer": "Kai Moritz",
}


@dataclass
class Scene:
    """A server and the ids of what its account has."""

    server: Server
    ids: dict[str, str] = field(default_factory=dict)
    _tokens: dict[Role, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.server.port}"

    def token(self, role: Role) -> str:
        """The token of a member who is signed in, the same for each role."""
        if role not in self._tokens:
            account_id = first_account_id(self.server)
            person = add_member(self.server, account_id, role, f"{role}@example.com", NAMES[role])
            self._tokens[role] = signed_in(self.server, account_id, person).cookies["loyalpro"]
        return self._tokens[role]


@dataclass(frozen=True)
class Look:
    """One page in one state. `path`: its address, or what makes the state and returns it. `role`: who looks; None for nobody.

    `expects`: a pattern of what the browser logs by right, such as the status of an error.
    """

    path: str | Callable[[Scene], str]
    role: Role | None = "owner"
    expects: str | None = None

    def address(self, scene: Scene) -> str:
        """The path at this scene."""
        return self.path if isinstance(self.path, str) else self.path(scene)


def endpoint_of(scene: Scene, name: str = "CRM", **fields: Any) -> str:
    """The path of the page of an endpoint with this name."""
    if name not in scene.ids:
        body = {
            "url": "https://localhost:1024/in",
            "events": ["points.earned", "customer.created"],
            "description": name,
        }
        scene.ids[name] = scene.server.post("/v1/webhook_endpoints", body | fields)["id"]
    return f"/developers/webhooks/{scene.ids[name]}"


def _with_sample(scene: Scene) -> str:
    """The page that shows a test event to an endpoint that nothing listens at."""
    path = endpoint_of(scene)
    sent = scene.server.post(f"/v1/webhook_endpoints/{scene.ids['CRM']}/test", {})
    scene.server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["last_outcome"] is not None)
    return f"{path}/set-up?test={sent['id']}"


def _rotating(scene: Scene) -> str:
    path = endpoint_of(scene, "Till")
    scene.server.post(f"/v1/webhook_endpoints/{scene.ids['Till']}/rotate_secret", {})
    return f"{path}/secret"


def customer_of(scene: Scene) -> str:
    """The path of the page of a customer with points, purchases, a refund, a tier, tags and metadata."""
    if "Ada" not in scene.ids:
        post = scene.server.post
        post("/v1/webhook_endpoints", {"url": "https://localhost:1024/in", "events": ["*"], "description": "Shop"})
        body = {"external_id": "shop-77", "email": "ada@example.com", "phone": "+49 30 1234567", "name": "Ada Brandt"}
        customer = post("/v1/customers", body | {"tags": ["vip", "berlin"], "metadata": {"newsletter": True}})
        scene.ids["Ada"] = customer["id"]
        for number, amount in ((87101, 4200), (87990, 24800), (88213, 105600)):
            bought = {"customer_external_id": "shop-77", "external_id": f"order-{number}", "currency": "EUR"}
            lines = [{"name": "Coffee beans, 1 kg", "sku": "bean-1", "amount": amount, "quantity": 2}]
            made = post("/v1/transactions", bought | {"amount": amount, "channel": "web", "items": lines})
            scene.ids[f"order-{number}"] = made["id"]
        post(f"/v1/transactions/{scene.ids['order-87101']}/refunds", {"amount": 1800, "reason": "a broken cup"})
        path = f"/v1/customers/{customer['id']}/adjustments"
        post(path, {"points": 50, "reason_code": "goodwill", "note": "broken cup in parcel"})
        post(path, {"points": 240, "reason_code": "promotion", "expires_at": _in_days(20)})
        post("/v1/redemptions", {"customer_id": customer["id"], "points": 300})
        for number in range(3):
            post("/v1/customers", {"name": f"Kim Lee {number}", "email": f"kim{number}@example.com"})
    return f"/customers/{scene.ids['Ada']}"


def _in_days(days: int) -> str:
    return rfc3339(SystemClock().now_ms() + days * MS_PER_DAY)


def _erased(scene: Scene) -> str:
    gone = scene.server.post("/v1/customers", {"name": "Gone Soon"})["id"]
    assert scene.server.call("DELETE", f"/v1/customers/{gone}").status == 200
    return f"/customers/{gone}"


def _deliveries(scene: Scene) -> str:
    """The log with what was tried and what waits."""
    endpoint_of(scene)
    if "log" not in scene.ids:
        scene.ids["log"] = scene.server.post("/v1/customers", {"name": "Ada Brandt", "external_id": "shop-9017"})["id"]
        sold = {"customer_id": scene.ids["log"], "amount": 5_600, "currency": "EUR", "external_id": "order-9017"}
        scene.server.post("/v1/transactions", sold)
    path = f"/v1/deliveries?customer_id={scene.ids['log']}"
    scene.server.until(path, lambda found: found["data"] and all(each["last_outcome"] for each in found["data"]))
    return "/developers/deliveries"


def delivery_of(scene: Scene, number: int, **columns: Any) -> str:
    """A delivery to an endpoint that is not there, whose attempt then says what the columns say."""
    _deliveries(scene)
    found = scene.server.get(f"/v1/deliveries?customer_id={scene.ids['log']}")["data"][number]
    names = ", ".join(f"{name} = ?" for name in columns)

    def work(unit: UnitOfWork) -> None:
        sql = f"UPDATE attempts SET {names} WHERE delivery_id = ? AND number = 1"
        unit.connection.execute(sql, (*columns.values(), found["id"]))

    if columns:
        scene.server.run(scene.server.application.runner.change(work))
    return f"/developers/deliveries/{found['id']}"


REFUSED: dict[str, Any] = {
    "outcome": "http_5xx",
    "response_status": 500,
    "response_headers": '[["content-type","application/json"],["server","nginx"],["x-request-id","7f1c9b02"]]',
    "response_excerpt": b'{"error":"duplicate key value violates unique constraint","hint":"<script>alert(1)</script>"}',
    "response_truncated": 0,
    "remote_ip": "203.0.113.24",
    "dns_ms": 3.1,
    "connect_ms": 17.9,
    "tls_ms": 61.8,
    "first_byte_ms": 1_203.8,
    "total_ms": 1_204.4,
}
_UNANSWERED: dict[str, Any] = {
    "outcome": "timeout",
    "remote_ip": "203.0.113.24",
    "dns_ms": 2.8,
    "connect_ms": 16.0,
    "tls_ms": 58.0,
    "total_ms": 30_000.0,
}


LOOKS: dict[str, Look] = {
    "deliveries-empty": Look("/developers/deliveries"),
    "customers-empty": Look("/customers"),
    "customer": Look(customer_of),
    "customer-masked": Look(customer_of, "viewer"),
    "customer-deleted": Look(_erased),
    "customer-transactions": Look(lambda scene: f"{customer_of(scene)}/transactions"),
    "customer-details": Look(lambda scene: f"{customer_of(scene)}/details"),
    "customers": Look(lambda scene: customer_of(scene) and "/customers"),
    "customers-found": Look(lambda scene: customer_of(scene) and "/customers?q=kim"),
    "customers-not-found": Look("/customers?q=nobody"),
    "webhooks-empty": Look("/developers/webhooks"),
    "add-endpoint": Look("/developers/webhooks/new?example=fraud.detected"),
    "endpoint": Look(endpoint_of),
    "set-up": Look(lambda scene: f"{endpoint_of(scene)}/set-up?framework=django"),
    "set-up-failed": Look(_with_sample),
    "endpoint-failing": Look(endpoint_of),
    "endpoint-paused": Look(lambda scene: endpoint_of(scene, "Newsletter", status="paused"), "viewer"),
    "endpoint-settings": Look(lambda scene: f"{endpoint_of(scene)}/settings"),
    "endpoint-secret": Look(_rotating, "developer"),
    "endpoint-delete": Look(lambda scene: f"{endpoint_of(scene)}/delete"),
    "webhooks": Look("/developers/webhooks"),
    "deliveries": Look(_deliveries),
    "deliveries-viewer": Look(lambda scene: f"{_deliveries(scene)}?since=1h&customer={scene.ids['log']}", "viewer"),
    "deliveries-none": Look(lambda scene: f"{_deliveries(scene)}?outcome=gone&endpoint={scene.ids['CRM']}"),
    "delivery": Look(lambda scene: delivery_of(scene, 0, **REFUSED)),
    "delivery-no-answer": Look(lambda scene: f"{delivery_of(scene, 1, **_UNANSWERED)}?attempt=1", "viewer"),
    "components": Look("/components"),
    "not-found": Look("/no-such-page", None, expects="404"),
    "forbidden": Look("/members", "viewer", expects="403"),
    "sign-in": Look("/sign-in", None),
    "me": Look("/me"),
    "me-sessions": Look("/me/sessions"),
    "me-second-factor": Look("/me/second-factor"),
    "me-proof": Look("/me/proof"),
    "members": Look("/members"),
    "keys": Look("/developers/keys"),
}
"""Every page in every state, by the name of its picture. Each is checked by axe, and drawn by `make pictures`."""
