"""Every call of the API with what a test needs to make it: its scope, and a body that its fields accept.

A text such as `{customer_id}` stands for the id of an object that exists, in paths and in bodies.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from support.server import Server

SINCE: Final = "2020-01-01T00:00:00Z"
WITHOUT_A_KEY: Final = {("get", "/v1/event_types"), ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics")}
Method = str
Path = str


@dataclass(frozen=True)
class Call:
    """A call that needs an API key. `scope`: the one it needs. `body`: one that is not refused for its form."""

    scope: str
    body: Any = None


_BUYER = {"customer_id": "{customer_id}", "amount": 100, "currency": "EUR"}
_ADDRESS = {"url": "https://localhost:1024/added", "events": ["*"], "status": "paused"}
_REWARD = {"name": "added", "type": "custom", "cost_points": 1}
_CAMPAIGN = {"name": "added", "kind": "bonus", "points": 1, "status": "paused"}

CALLS: Final[dict[tuple[Method, Path], Call]] = {
    ("get", "/v1/customers"): Call("read"),
    ("post", "/v1/customers"): Call("customers", {"external_id": "added"}),
    ("post", "/v1/customers/batch"): Call("customers", {"customers": [{}]}),
    ("get", "/v1/customers/{customer_id}"): Call("read"),
    ("patch", "/v1/customers/{customer_id}"): Call("customers", {"name": "changed"}),
    ("delete", "/v1/customers/{customer_id}"): Call("customers"),
    ("post", "/v1/customers/{customer_id}/merge"): Call("customers", {"into": "{own.customer_id}"}),
    ("get", "/v1/customers/{customer_id}/ledger"): Call("read"),
    ("get", "/v1/customers/{customer_id}/lots"): Call("read"),
    ("get", "/v1/customers/{customer_id}/statement"): Call("read"),
    ("get", "/v1/customers/{customer_id}/export"): Call("read"),
    ("put", "/v1/customers/{customer_id}/tier"): Call("customers", {"tier_id": "{own.tier_id}", "reason": "x"}),
    ("post", "/v1/customers/{customer_id}/adjustments"): Call("points", {"points": 1, "reason_code": "x"}),
    ("post", "/v1/lots/{lot_id}/activate"): Call("points"),
    ("post", "/v1/lots/{lot_id}/cancel"): Call("points"),
    ("get", "/v1/find"): Call("read"),
    ("get", "/v1/transactions"): Call("read"),
    ("post", "/v1/transactions"): Call("transactions", _BUYER),
    ("post", "/v1/transactions/batch"): Call("transactions", {"transactions": [_BUYER]}),
    ("post", "/v1/transactions/calculate"): Call("transactions", _BUYER),
    ("get", "/v1/transactions/{transaction_id}"): Call("read"),
    ("get", "/v1/transactions/{transaction_id}/refunds"): Call("read"),
    ("post", "/v1/transactions/{transaction_id}/refunds"): Call("transactions", {"amount": 1}),
    ("post", "/v1/refunds/batch"): Call("transactions", {"refunds": [{"transaction_id": "{transaction_id}"}]}),
    ("get", "/v1/imports"): Call("read"),
    ("post", "/v1/imports"): Call("transactions", {"kind": "transactions", "rows": [_BUYER]}),
    ("get", "/v1/imports/{import_id}"): Call("read"),
    ("get", "/v1/imports/{import_id}/refusals"): Call("read"),
    ("post", "/v1/imports/{import_id}/cancel"): Call("transactions"),
    ("get", "/v1/exports"): Call("read"),
    ("post", "/v1/exports"): Call("read", {"kind": "customers"}),
    ("get", "/v1/exports/{export_id}"): Call("read"),
    ("get", "/v1/exports/{export_id}/file"): Call("read"),
    ("post", "/v1/exports/{export_id}/cancel"): Call("read"),
    ("get", "/v1/reports/liability"): Call("read"),
    ("get", "/v1/reports/expiring"): Call("read"),
    ("get", "/v1/program"): Call("read"),
    ("patch", "/v1/program"): Call("program", {"point_value": "0.02"}),
    ("get", "/v1/program/versions"): Call("read"),
    ("get", "/v1/program/versions/{version}"): Call("read"),
    ("get", "/v1/campaigns"): Call("read"),
    ("post", "/v1/campaigns"): Call("program", _CAMPAIGN),
    ("get", "/v1/campaigns/{campaign_id}"): Call("read"),
    ("patch", "/v1/campaigns/{campaign_id}"): Call("program", {"name": "changed"}),
    ("delete", "/v1/campaigns/{campaign_id}"): Call("program"),
    ("get", "/v1/rewards"): Call("read"),
    ("post", "/v1/rewards"): Call("program", _REWARD),
    ("get", "/v1/rewards/{reward_id}"): Call("read"),
    ("patch", "/v1/rewards/{reward_id}"): Call("program", {"name": "changed"}),
    ("delete", "/v1/rewards/{reward_id}"): Call("program"),
    ("get", "/v1/redemptions"): Call("read"),
    ("post", "/v1/redemptions"): Call("points", {"customer_id": "{customer_id}", "points": 1}),
    ("get", "/v1/redemptions/{redemption_id}"): Call("read"),
    ("post", "/v1/redemptions/{redemption_id}/capture"): Call("points"),
    ("post", "/v1/redemptions/{redemption_id}/cancel"): Call("points"),
    ("post", "/v1/redemptions/{redemption_id}/reverse"): Call("points"),
    ("get", "/v1/churn/settings"): Call("read"),
    ("put", "/v1/churn/settings"): Call("program", {"horizon_days": 60}),
    ("post", "/v1/churn/runs"): Call("program", {"baseline": True}),
    ("get", "/v1/churn/runs/{run_id}"): Call("read"),
    ("get", "/v1/churn/scores"): Call("read"),
    ("get", "/v1/fraud/rules"): Call("read"),
    ("put", "/v1/fraud/rules"): Call("program", {"rules": [{"code": "points.cap", "score": 51}]}),
    ("get", "/v1/fraud/rules/{code}"): Call("read"),
    ("put", "/v1/fraud/rules/{code}"): Call("program", {"score": 52}),
    ("post", "/v1/fraud/rules/{code}/backtest"): Call("program", {"days": 1}),
    ("get", "/v1/fraud/cases"): Call("read"),
    ("get", "/v1/fraud/cases/{case_id}"): Call("read"),
    ("post", "/v1/fraud/cases/{case_id}/resolve"): Call("program", {"resolution": "false_positive"}),
    ("get", "/v1/webhook_endpoints"): Call("read"),
    ("post", "/v1/webhook_endpoints"): Call("webhooks", _ADDRESS),
    ("post", "/v1/webhook_endpoints/check_url"): Call("webhooks", {"url": "https://localhost:1024/added"}),
    ("get", "/v1/webhook_endpoints/{endpoint_id}"): Call("read"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/stats"): Call("read"),
    ("patch", "/v1/webhook_endpoints/{endpoint_id}"): Call("webhooks", {"description": "changed"}),
    ("delete", "/v1/webhook_endpoints/{endpoint_id}"): Call("webhooks"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/secret"): Call("webhooks"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/test"): Call("webhooks"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/rotate_secret"): Call("webhooks"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/replay"): Call("webhooks", {"since": SINCE}),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/replay/estimate"): Call("webhooks", {"since": SINCE}),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/replays"): Call("read"),
    ("get", "/v1/webhook_endpoints/{endpoint_id}/replays/{replay_id}"): Call("read"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/replays/{replay_id}/cancel"): Call("webhooks"),
    ("get", "/v1/events"): Call("read"),
    ("get", "/v1/events/{event_id}"): Call("read"),
    ("post", "/v1/events/{event_id}/resend"): Call("webhooks"),
    ("get", "/v1/deliveries"): Call("read"),
    ("get", "/v1/deliveries/{delivery_id}"): Call("read"),
    ("post", "/v1/deliveries/{delivery_id}/retry"): Call("webhooks"),
    ("post", "/v1/deliveries/{delivery_id}/cancel"): Call("webhooks"),
    ("get", "/v1/notices"): Call("read"),
    ("get", "/v1/api_keys"): Call("admin"),
    ("post", "/v1/api_keys"): Call("admin", {"name": "added", "scopes": ["read"]}),
    ("get", "/v1/api_keys/{key_id}"): Call("admin"),
    ("patch", "/v1/api_keys/{key_id}"): Call("admin", {"name": "changed"}),
    ("delete", "/v1/api_keys/{key_id}"): Call("admin"),
    ("get", "/v1/audit_log"): Call("admin"),
}

OF_EVERY_ACCOUNT: Final = {"code"}
"""Path parameters that name something that each account has, such as a fraud rule: a call changes that of its own account."""

OBJECTS_IN_BODIES: Final[dict[tuple[Method, Path, str], Any]] = {
    ("post", "/v1/customers/{customer_id}/merge", "into"): {"into": "{customer_id}"},
    ("put", "/v1/customers/{customer_id}/tier", "tier_id"): {"tier_id": "{tier_id}", "reason": "x"},
    ("post", "/v1/transactions", "customer_id"): _BUYER,
    ("post", "/v1/transactions", "customer_external_id"): {
        "customer_external_id": "{external_id}", "amount": 1, "currency": "EUR",
    },
    ("post", "/v1/transactions", "redemption_ids"): _BUYER | {
        "customer_id": "{own.customer_id}", "redemption_ids": ["{redemption_id}"],
    },
    ("post", "/v1/transactions/calculate", "customer_id"): _BUYER,
    ("post", "/v1/transactions/calculate", "customer_external_id"): {
        "customer_external_id": "{external_id}", "amount": 1, "currency": "EUR",
    },
    ("post", "/v1/campaigns", "tier_ids"): _CAMPAIGN | {"tier_ids": ["{tier_id}"]},
    ("patch", "/v1/campaigns/{campaign_id}", "tier_ids"): {"tier_ids": ["{tier_id}"]},
    ("post", "/v1/rewards", "tier_ids"): _REWARD | {"tier_ids": ["{tier_id}"]},
    ("patch", "/v1/rewards/{reward_id}", "tier_ids"): {"tier_ids": ["{tier_id}"]},
    ("post", "/v1/redemptions", "customer_id"): {"customer_id": "{customer_id}", "points": 1},
    ("post", "/v1/redemptions", "customer_external_id"): {"customer_external_id": "{external_id}", "points": 1},
    ("post", "/v1/redemptions", "reward_id"): {"customer_id": "{own.customer_id}", "reward_id": "{reward_id}"},
    ("post", "/v1/redemptions", "transaction_id"): {
        "customer_id": "{own.customer_id}", "points": 1, "transaction_id": "{transaction_id}",
    },
    ("post", "/v1/redemptions/{redemption_id}/capture", "transaction_id"): {"transaction_id": "{transaction_id}"},
    ("post", "/v1/events/{event_id}/resend", "endpoint_id"): {"endpoint_id": "{endpoint_id}"},
    ("patch", "/v1/program", "tiers.id"): {"tiers": [{"id": "{tier_id}", "name": "taken", "threshold": 0}]},
    ("patch", "/v1/program", "earning.rules.id"): {
        "earning": {"rules": [{"id": "{rule_id}", "name": "taken", "rates": {"EUR": {"points": 1, "per_amount": 1}}}]}
    },
}  # fmt: skip
"""Bodies of calls that name an object, by the field that names it."""

FIELDS_OF_OTHERS: Final = {"external_id", "location_id", "employee_id", "device_id", "id"}
"""Fields that are called like ids of objects and are texts of the merchant; and what answers that are sent back contain."""


def filled(value: Any, ids: dict[str, str]) -> Any:
    """A path or body with ids in place of their names."""
    if isinstance(value, dict):
        return {name: filled(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, ids) for each in value]
    return re.sub(r"\{([\w.]+)\}", lambda name: ids[name[1]], value) if isinstance(value, str) else value


def calls_of(server: Server) -> dict[tuple[Method, Path], Any]:
    """Every operation of the published document."""
    paths = server.get("/openapi.json")["paths"]
    return {(method, path): call for path, methods in paths.items() for method, call in methods.items()}
