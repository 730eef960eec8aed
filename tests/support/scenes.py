"""What pages are looked at with: a server whose account has members who are signed in."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from loyalpro.accounts.roles import Role
from loyalpro.accounts.web_sessions import start_web_session
from loyalpro.delivery.counters import bucket_of
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.tables.counters import HOUR_MS, MINUTE_MS
from loyalpro.storage.unit_of_work import UnitOfWork
from support.browser import Browser
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


LOOKS: dict[str, Look] = {
    "first-run": Look("/first-run", None),  # before the first owner is there
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
}
"""Every page in every state, by the name of its picture. Each is checked by axe, and drawn by `make pictures`."""
