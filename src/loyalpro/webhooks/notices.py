"""Notices: messages to the owner of an endpoint, such as that the endpoint was disabled."""

from loyalpro.kernel.record import record
from loyalpro.webhooks.entities import PastNotice
from loyalpro.webhooks.ports import WebhooksUnit


@record
class ListNotices:
    """A page of an account's notices, or of one endpoint's: those older than `before_id`."""

    account_id: str
    before_id: str | None
    limit: int
    endpoint_id: str | None = None


def list_notices(unit: WebhooksUnit, query: ListNotices) -> list[PastNotice]:
    """Notices, newest first."""
    return unit.notices.list_before(query.account_id, query.before_id, query.endpoint_id, query.limit)
