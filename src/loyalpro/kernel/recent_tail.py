"""The end of an id, by which a person names an object that was made lately."""

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record


@record
class RecentTail:
    """Objects of an account whose ids end with `tail`, made since an instant, among the newest `most` of their kind.

    `tail` has only characters of ids.
    """

    account_id: str
    tail: str
    since: UnixMs
    most: int
