"""`/v1/webhook_endpoints/{id}/secret` and `rotate_secret`: the signing secret of an endpoint, and its rotation."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.web.answers import Time, answers
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Body, known_id
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.webhooks import rotation
from loyalpro.webhooks.endpoints import EndpointRef
from loyalpro.webhooks.secrets import LONGEST_OVERLAP_S

router = APIRouter(
    prefix="/v1/webhook_endpoints",
    tags=["webhook endpoints"],
    route_class=StrictRoute.needing(read="webhooks", write="webhooks"),
)


class SecretView(TypedDict):
    """The newest signing secret."""

    secret: Annotated[str, Field(examples=["whsec_t3yng+ca9WUqqKwKP+Gu+KV2IstxZqO1Yn7IY6We81A="])]


class RotatedView(SecretView):
    """The secret after a rotation, and the end of the one before."""

    previous_secret_expires_at: Time | None
    promoted: bool


class RotateSecret(Body):
    """How long the old secret stays valid, and whether to finish the rotation under way."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap_seconds": 86400}]})

    overlap_seconds: Annotated[
        int | None,
        Field(
            ge=0,
            le=LONGEST_OVERLAP_S,
            description="Seconds that the old secret stays valid; 24 hours by default, 0 revokes it.",
        ),
    ] = None
    promote: Annotated[
        bool, Field(description="Finish the rotation: sign X-LoyalPro-Signature with the newest secret from now on.")
    ] = False


@router.get("/{endpoint_id}/secret", summary="Get an endpoint's signing secret")
async def get_secret(account_id: AccountId, services: ServicesDep, endpoint_id: str) -> SecretView:
    """The newest signing secret."""
    query = EndpointRef(account_id, known_id("we", endpoint_id))
    return {"secret": await services.runner.read(lambda unit: rotation.get_secret(unit, query))}


@router.post(
    "/{endpoint_id}/rotate_secret", summary="Change an endpoint's signing secret", responses=answers(RotatedView)
)
async def rotate(
    request: Request, account_id: AccountId, endpoint_id: str, body: RotateSecret | None = None
) -> Response:
    """Makes a new secret. Until the overlap ends, `webhook-signature` has a signature of the old secret as well.

    `X-LoyalPro-Signature` has one signature: of the old secret, until a request with it gets 400, 401 or 403 and the same
    request with the new secret, sent at once, gets 2xx; or until `promote`, or the end of the overlap.

    With `promote`, the secret that waits for the receiver is promoted, and no new one is made. If none waits, the request is
    refused with 409 `no_rotation`.
    """
    given = body or RotateSecret()
    command = rotation.RotateSecret(account_id, known_id("we", endpoint_id), given.overlap_seconds, given.promote)
    return await commit(request, account_id, lambda unit: Reply(200, _view(rotation.rotate_secret(unit, command))))


def _view(rotated: rotation.RotatedSecret) -> RotatedView:
    expires_at = rotated.previous_expires_at
    return {
        "secret": rotated.secret,
        "previous_secret_expires_at": None if expires_at is None else rfc3339(expires_at),
        "promoted": rotated.promoted,
    }
