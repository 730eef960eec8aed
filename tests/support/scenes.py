"""What pages are looked at with: a server whose account has members who are signed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loyalpro.accounts.roles import Role
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
    "documentation": Look("/documentation"),
    "documentation-overview": Look("/documentation/overview"),
    "documentation-verification": Look("/documentation/verification?framework=go", "viewer"),
    "documentation-event": Look("/documentation/points.earned"),
    "documentation-calls": Look("/documentation/api-webhook-endpoints"),
}
"""Every page in every state, by the name of its picture. Each is checked by axe, and drawn by `make pictures`."""
