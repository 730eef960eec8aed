"""What pages are looked at with: a server whose account has members who are signed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loyalpro.accounts.roles import Role
from support.browser import Browser
from support.churn import LEAVING, REGULAR, record, run
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
        customer = server.post("/v1/customers", {"name": "Ada Brandt", "external_id": "shop-77"})["id"]
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
    browser.upload("/imports/upload", "members.csv", rows, kind="customers")
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


LOOKS: dict[str, Look] = {
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
