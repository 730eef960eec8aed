"""What pages are looked at with: a server whose account has members who are signed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loyalpro.accounts.accounts import first_account
from loyalpro.accounts.people import new_person
from loyalpro.accounts.roles import Role
from loyalpro.accounts.web_sessions import Browser, start_web_session
from loyalpro.storage.unit_of_work import UnitOfWork
from support.server import Server

FIREFOX = Browser("192.0.2.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")
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
            self._tokens[role] = self.server.run(
                self.server.application.runner.change(lambda unit: _sign_in(unit, role), "control")
            )
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
    "components": Look("/components", None),
    "not-found": Look("/no-such-page", None, expects="404"),
}
"""Every page in every state, by the name of its picture. Each is checked by axe, and drawn by `make pictures`."""


def _sign_in(unit: UnitOfWork, role: Role) -> str:
    account = first_account(unit)
    assert account is not None
    email = f"{role}@example.com"
    person = new_person(unit, account.id, role, email=email, name=NAMES[role], password_hash="never used")
    [membership] = unit.people.memberships(person.id)
    return start_web_session(unit, person, membership, FIREFOX).token
