"""What pages are looked at with: a server whose account has members who are signed in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from loyalpro.accounts.roles import Role
from loyalpro.accounts.web_sessions import start_web_session
from loyalpro.delivery.counters import bucket_of
from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs, rfc3339
from loyalpro.storage.tables.counters import HOUR_MS, MINUTE_MS
from loyalpro.storage.unit_of_work import UnitOfWork
from support.browser import Browser
from support.churn import LEAVING, REGULAR, record, run
from support.history import insert
from support.members import add_member, first_account_id, signed_in
from support.people import BROWSER
from support.server import Server

Looker = Role | Literal["awaiting code"]
"""Who looks at a page: a member, or one who has given the password and not yet the code."""
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
    _tokens: dict[Looker, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """Where the pages are."""
        return f"http://127.0.0.1:{self.server.port}"

    def token(self, looker: Looker) -> str:
        """The token of the web session of a member, the same for each role."""
        if looker not in self._tokens:
            self._tokens[looker] = self._halfway() if looker == "awaiting code" else self._signed_in(looker)
        return self._tokens[looker]

    def browser(self, role: Role) -> Browser:
        """A browser without scripts of a member."""
        browser = Browser(self.server)
        browser.cookies["loyalpro"] = self.token(role)
        return browser

    def _signed_in(self, role: Role) -> str:
        account_id = first_account_id(self.server)
        person = add_member(self.server, account_id, role, f"{role}@example.com", NAMES[role])
        return signed_in(self.server, account_id, person).cookies["loyalpro"]

    def _halfway(self) -> str:
        person = add_member(self.server, first_account_id(self.server), "viewer", "code@example.com", "Noa Code")

        def work(unit: UnitOfWork) -> str:
            [membership] = unit.people.memberships(person.id)
            return start_web_session(unit, person, membership, BROWSER, awaits_code=True).token

        return self.server.run(self.server.application.runner.change(work))


@dataclass(frozen=True)
class Look:
    """One page in one state. `path`: its address, or what makes the state and returns it. `role`: who looks; None for nobody.

    `expects`: a pattern of what the browser logs by right, such as the status of an error.
    """

    path: str | Callable[[Scene], str]
    role: Looker | None = "owner"
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


def _with_sample(scene: Scene, name: str = "CRM") -> str:
    """The page that shows a test event to a new endpoint that nothing listens at."""
    path = endpoint_of(scene, name)
    sent = scene.server.post(f"/v1/webhook_endpoints/{scene.ids[name]}/test", {})
    scene.server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["last_outcome"] is not None)
    return f"{path}/set-up?test={sent['id']}"


def _rotating(scene: Scene) -> str:
    path = endpoint_of(scene, "Till")
    scene.server.post(f"/v1/webhook_endpoints/{scene.ids['Till']}/rotate_secret", {})
    return f"{path}/secret"


def plant_attempts(scene: Scene, endpoint_id: str, until: UnixMs, *, failing_hours: int = 0, hours: int = 24) -> None:
    """Count attempts of an endpoint as if it had been busy by day for so many hours, and had failed in the last ones."""
    minute = until - until % MINUTE_MS
    rows = []
    for n in range(hours * 60):
        at = minute - n * MINUTE_MS
        busy = 6 + (at // HOUR_MS * 7) % 5 if 6 <= at // HOUR_MS % 24 < 22 else 0
        if busy and n < failing_hours * 60:
            rows += [(at, "timeout", 0, 0, busy - 2), (at, "http_5xx", 503, 0, 2), (at, "http_5xx", 500, 0, 1)]
        elif busy:
            rows += [(at, "succeeded", 0, bucket_of(20 * 1.3**m), busy >> m) for m in range(10) if busy >> m]
    insert(
        scene.server.application.settings.database_url.get_secret_value(),
        "delivery_counters",
        "endpoint_id, span_ms, start_at, slot, outcome, response_status, bucket, attempts, last_at",
        [(endpoint_id, MINUTE_MS, at, 1, *counted, at + 1) for at, *counted in rows],
    )


def _busy(scene: Scene, name: str, *, failing_hours: int = 0, hours: int = 24, **fields: Any) -> str:
    """The path of the page of an endpoint that has been busy for a month, and has failed in the last hours."""
    is_new = name not in scene.ids
    path = endpoint_of(scene, name, **fields)
    if is_new:
        now = scene.server.application.clock.now_ms()
        plant_attempts(scene, scene.ids[name], now, failing_hours=failing_hours, hours=hours)
    return path


def _replay(scene: Scene) -> str:
    """The page of a replay that is done."""
    path = endpoint_of(scene)
    if "replay" not in scene.ids:
        body = {"since": "2026-01-01T00:00:00Z", "status": ["exhausted", "missing"]}
        started = scene.server.post(f"/v1/webhook_endpoints/{scene.ids['CRM']}/replay", body)
        scene.ids["replay"] = started["id"]
        own = f"/v1/webhook_endpoints/{scene.ids['CRM']}/replays/{started['id']}"
        scene.server.until(own, lambda found: found["status"] == "done")
    return f"{path}/replays/{scene.ids['replay']}"


def _list(scene: Scene) -> str:
    """The list with an endpoint in each of several states."""
    endpoint_of(scene)
    endpoint_of(scene, "Newsletter", status="paused")
    _busy(scene, "Shop back end", events=["*"])
    _busy(scene, "Warehouse", failing_hours=2)
    return "/developers/webhooks"


def _invited(scene: Scene) -> str:
    """The page of a new invitation."""
    owner = scene.browser("owner")
    owner.open("/members")
    owner.send("/members/invite", role="support")
    [path] = set(re.findall(r"/invitations/[\w-]{20,}", owner.text))
    return str(path)


def _with_rules(scene: Scene) -> str:
    """The program with several rules, tiers that give more, and campaigns of every status."""
    server = scene.server
    if "campaign" in scene.ids:
        return "/rules"
    program = server.get("/v1/program")
    [rule], [bronze, silver, gold] = program["earning"]["rules"], program["tiers"]
    tea = {"name": "Tea", "points_per_item": 10, "match": {"skus": [], "categories": ["tea"]}, "min_spend": 1_500}
    benefit = {"code": "shipping", "text": "Free shipping"}
    patch = {
        "earning": {"rules": [rule, tea], "max_points_per_day": 5_000},
        "tiers": [bronze, silver | {"multiplier_permille": 1_250}, gold | {"multiplier_permille": 1_500, "benefits": [benefit]}],
        "note": "Tea, and more for Gold",
    }  # fmt: skip
    assert server.call("PATCH", "/v1/program", patch).status == 200
    double = {
        "name": "Double points on weekends",
        "kind": "multiplier",
        "multiplier_permille": 2_000,
        "weekdays": ["sat", "sun"],
    }
    scene.ids["campaign"] = server.post("/v1/campaigns", double)["id"]
    server.post(
        "/v1/campaigns",
        {"name": "Welcome", "kind": "bonus", "points": 100, "limit_per_customer": 1, "status": "paused"},
    )
    return "/rules"


def _rule(scene: Scene) -> str:
    _with_rules(scene)
    return f"/rules/earning/{scene.server.get('/v1/program')['earning']['rules'][1]['id']}"


def _campaign(scene: Scene) -> str:
    _with_rules(scene)
    return f"/rules/campaigns/{scene.ids['campaign']}"


def _with_case(scene: Scene) -> str:
    """A queue with an open case of many purchases."""
    server = scene.server
    if "case" not in scene.ids:
        customer = server.post("/v1/customers", {"name": "Ada Brandt", "external_id": "shop-78"})["id"]
        for number in range(6):
            bought = {
                "customer_id": customer,
                "amount": 1_000 + number,
                "currency": "EUR",
                "external_id": f"order-{number}",
            }
            server.post("/v1/transactions", bought)
        scene.ids["case"] = server.get("/v1/fraud/cases")["data"][0]["id"]
    return "/fraud"


def _columns(scene: Scene) -> str:
    """The page of the columns of a file, of which one row is wrong."""
    browser = Browser(scene.server)
    browser.cookies["loyalpro"] = scene.token("owner")
    browser.open("/imports")
    rows = b"Number;E-mail;Name;Notes\nold-1;ann@example.com;Ann Lee;first\nold-2;bob@;Bob;\nold-3;cy@example.com;Cy;\n"
    browser.upload("/imports", "members.csv", rows, kind="customers")
    return f"{browser.path}?kind=customers"


def import_of(scene: Scene) -> str:
    """The page of a trial run that is over, with a refused row."""
    path = _columns(scene).partition("?")[0]
    browser = Browser(scene.server)
    browser.cookies["loyalpro"] = scene.token("owner")
    browser.open(path)
    fields = {"column.external_id": "Number", "column.email": "E-mail", "column.name": "Name"}
    browser.send(path, fields=fields | {"kind": "customers", "earn": "rules", "amounts": "minor"})
    scene.server.until(f"/v1/imports/{browser.path.rpartition('/')[2]}", lambda found: found["status"] == "done")
    return browser.path


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
    """The log with what was tried and what waits. Its endpoint is new: one that fails for long is tried rarely."""
    if "log" not in scene.ids:
        name = "Log" if "CRM" in scene.ids else "CRM"
        endpoint_of(scene, name)
        scene.ids["log endpoint"] = scene.ids[name]
        scene.ids["log"] = scene.server.post("/v1/customers", {"name": "Ada Brandt", "external_id": "shop-9017"})["id"]
        sold = {"customer_id": scene.ids["log"], "amount": 5_600, "currency": "EUR", "external_id": "order-9017"}
        scene.server.post("/v1/transactions", sold)
    scene.server.until(
        _of_the_log(scene), lambda found: found["data"] and all(each["last_outcome"] for each in found["data"])
    )
    return "/developers/deliveries"


def _of_the_log(scene: Scene) -> str:
    return f"/v1/deliveries?customer_id={scene.ids['log']}&endpoint_id={scene.ids['log endpoint']}"


def delivery_of(scene: Scene, number: int, **columns: Any) -> str:
    """A delivery to an endpoint that is not there, whose attempt then says what the columns say."""
    _deliveries(scene)
    found = scene.server.get(_of_the_log(scene))["data"][number]
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


def event_of(scene: Scene) -> str:
    """The page of an event about points."""
    _deliveries(scene)
    found = scene.server.listed(f"/v1/events?customer_id={scene.ids['log']}&type=points.earned")["data"]
    return f"/developers/events/{found[0]['id']}"


def _with_rewards(scene: Scene) -> str:
    """Rewards with and without a stock, and what was redeemed."""
    server = scene.server
    if "reward" not in scene.ids:
        customer = server.post("/v1/customers", {"name": "Jo Lee"})["id"]
        server.post(f"/v1/customers/{customer}/adjustments", {"points": 500, "reason_code": "goodwill"})
        off = {"name": "5 EUR off", "type": "amount_off", "amount": 500, "currency": "EUR", "cost_points": 100}
        scene.ids["reward"] = server.post("/v1/rewards", off)["id"]
        server.post(
            "/v1/rewards", {"name": "Coffee", "type": "free_item", "sku": "COFFEE", "cost_points": 40, "stock": 0}
        )
        server.post("/v1/redemptions", {"customer_id": customer, "reward_id": scene.ids["reward"]})
        server.post("/v1/redemptions", {"customer_id": customer, "points": 60, "reserve": True})
    return "/rewards"


def _with_scores(scene: Scene) -> str:
    """Scores of customers who keep buying, and of some who stopped."""
    if "scored" not in scene.ids:
        record(scene.server, {f"keeps-{n}": REGULAR for n in range(9)} | {f"stops-{n}": LEAVING for n in range(4)})
        scene.ids["scored"] = run(scene.server)["id"]
    return "/churn"


def case_of(scene: Scene) -> str:
    """The page of an open case."""
    return f"{_with_case(scene)}/cases/{scene.ids['case']}"


def reward_of(scene: Scene) -> str:
    """The page of a reward."""
    return f"{_with_rewards(scene)}/{scene.ids['reward']}"


def _overview(scene: Scene) -> str:
    """The first page of an account with an endpoint that fails, and with a customer who has points that expire soon."""
    if "overview" not in scene.ids:
        _with_sample(scene, "Warehouse lights")
        server = scene.server
        scene.ids["overview"] = server.post("/v1/customers", {"external_id": "overview", "name": "Grace Okafor"})["id"]
        soon = rfc3339(server.application.clock.now_ms() + 5 * MS_PER_DAY)
        given = {"points": 120, "reason_code": "goodwill", "expires_at": soon}
        server.post(f"/v1/customers/{scene.ids['overview']}/adjustments", given)
    return "/"


LOOKS: dict[str, Look] = {
    "first-run": Look("/first-run", None),  # before the first owner is there
    "webhooks-empty": Look("/developers/webhooks"),
    "deliveries-empty": Look("/developers/deliveries"),
    "events-empty": Look("/developers/events"),
    "customers-empty": Look("/customers"),
    "transactions-empty": Look("/transactions"),
    "customer": Look(customer_of),
    "customer-masked": Look(customer_of, "viewer"),
    "customer-deleted": Look(_erased),
    "customer-transactions": Look(lambda scene: f"{customer_of(scene)}/transactions"),
    "customer-details": Look(lambda scene: f"{customer_of(scene)}/details"),
    "customer-adjust": Look(lambda scene: f"{customer_of(scene)}/adjust", "support"),
    "customer-merge": Look(lambda scene: f"{customer_of(scene)}/merge?into=kim%20lee%201"),
    "customer-merge-which": Look(lambda scene: f"{customer_of(scene)}/merge?into=kim"),
    "customer-delete": Look(lambda scene: f"{customer_of(scene)}/delete"),
    "transaction": Look(lambda scene: customer_of(scene) and f"/transactions/{scene.ids['order-87101']}"),
    "transaction-refund": Look(lambda scene: customer_of(scene) and f"/transactions/{scene.ids['order-87990']}/refund"),
    "transactions": Look(lambda scene: customer_of(scene) and "/transactions"),
    "transactions-not-found": Look("/transactions?q=order-0"),
    "find": Look(lambda scene: customer_of(scene) and "/find?q=kim"),
    "find-nothing": Look("/find?q=nothing+like+this"),
    "customers": Look(lambda scene: customer_of(scene) and "/customers"),
    "customers-found": Look(lambda scene: customer_of(scene) and "/customers?q=kim"),
    "customers-not-found": Look("/customers?q=nobody"),
    "overview-empty": Look("/"),
    "add-endpoint": Look("/developers/webhooks/new?example=fraud.detected"),
    "endpoint": Look(endpoint_of),
    "set-up": Look(lambda scene: f"{endpoint_of(scene)}/set-up?framework=django"),
    "set-up-failed": Look(_with_sample),
    "endpoint-failing": Look(endpoint_of),
    "endpoint-paused": Look(lambda scene: endpoint_of(scene, "Newsletter", status="paused"), "viewer"),
    "endpoint-settings": Look(lambda scene: f"{endpoint_of(scene)}/settings"),
    "endpoint-secret": Look(_rotating, "developer"),
    "endpoint-delete": Look(lambda scene: f"{endpoint_of(scene)}/delete"),
    "deliveries": Look(_deliveries),
    "deliveries-viewer": Look(lambda scene: f"{_deliveries(scene)}?since=1h&customer={scene.ids['log']}", "viewer"),
    "deliveries-none": Look(lambda scene: f"{_deliveries(scene)}?outcome=gone&endpoint={scene.ids['log endpoint']}"),
    "delivery": Look(lambda scene: delivery_of(scene, 0, **REFUSED)),
    "events": Look(lambda scene: event_of(scene) and "/developers/events"),
    "events-none": Look(lambda scene: event_of(scene) and "/developers/events?type=churn.risk", "viewer"),
    "event": Look(event_of),
    "event-viewer": Look(event_of, "viewer"),
    "delivery-no-answer": Look(lambda scene: f"{delivery_of(scene, 1, **_UNANSWERED)}?attempt=1", "viewer"),
    "endpoint-busy": Look(lambda scene: _busy(scene, "Shop back end", events=["*"])),
    "endpoint-hour": Look(lambda scene: f"{_busy(scene, 'Warehouse', failing_hours=2)}?period=1h"),
    "endpoint-week": Look(lambda scene: f"{_busy(scene, 'Ledger', hours=170)}?period=7d"),
    "endpoint-month": Look(lambda scene: f"{_busy(scene, 'Ledger', hours=170)}?period=30d"),
    "endpoint-replay": Look(_replay),
    "endpoint-replays": Look(lambda scene: _replay(scene).rpartition("/")[0]),
    "endpoint-replays-empty": Look(lambda scene: f"{endpoint_of(scene, 'New')}/replays", "viewer"),
    "webhooks": Look(_list),
    "components": Look("/components"),
    "not-found": Look("/no-such-page", None, expects="404"),
    "forbidden": Look("/members", "viewer", expects="403"),
    "sign-in": Look("/sign-in", None),
    "sign-in-code": Look("/sign-in/code", "awaiting code"),
    "invitation": Look(_invited, None),
    "invitation-gone": Look("/invitations/a-link-that-is-too-old-to-be-used", None, expects="404"),
    "me": Look("/me"),
    "me-sessions": Look("/me/sessions"),
    "me-second-factor": Look("/me/second-factor"),
    "me-proof": Look("/me/proof"),
    "members": Look("/members"),
    "keys": Look("/developers/keys"),
    "overview": Look(_overview),
    "documentation": Look("/documentation"),
    "documentation-overview": Look("/documentation/overview"),
    "documentation-verification": Look("/documentation/verification?framework=go", "viewer"),
    "documentation-event": Look("/documentation/points.earned"),
    "documentation-calls": Look("/documentation/api-webhook-endpoints"),
    "rules": Look(_with_rules),
    "rules-viewer": Look("/rules", "viewer"),
    "rule": Look(_rule),
    "rule-new": Look("/rules/earning/new"),
    "rule-tiers": Look("/rules/tiers"),
    "rule-settings": Look("/rules/settings"),
    "campaign": Look(_campaign),
    "fraud": Look(_with_case),
    "fraud-dismissed": Look("/fraud?status=false_positive", "viewer"),
    "fraud-case": Look(case_of, "support"),
    "fraud-rules": Look("/fraud/rules"),
    "fraud-rule": Look("/fraud/rules/velocity.earn"),
    "imports-empty": Look("/imports", "viewer"),
    "import-columns": Look(_columns),
    "import-trial": Look(import_of, "support"),
    "imports": Look("/imports"),
    "exports": Look("/exports"),
    "rewards": Look(_with_rewards),
    "rewards-viewer": Look("/rewards?status=archived", "viewer"),
    "reward": Look(reward_of, "support"),
    "redemptions": Look("/rewards/redemptions"),
    "audit": Look("/audit"),
    "audit-none": Look("/audit?object=cus_nothing"),
    "churn": Look(_with_scores),
    "churn-low": Look("/churn?level=low", "viewer"),
    "rule-versions": Look("/rules/versions"),
    "rule-version": Look("/rules/versions/2"),
}
"""Every page in every state, by the name of its picture. Each is checked by axe, and drawn by `make pictures`."""
