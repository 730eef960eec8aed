"""When a web session was used: stored behind the response, so that a database that takes no writes still has pages to show."""

from loyalpro.accounts.web_sessions import NOTE_EVERY_MS
from support.history import query, undone
from support.members import new_member
from support.server import Server
from support.waiting import until

LOCKS = {
    "sqlite": "UPDATE web_sessions SET used_at = used_at",
    "postgresql": "LOCK TABLE web_sessions IN EXCLUSIVE MODE",
}


def used_at(url: str) -> int:
    """When the only web session was used, in Unix ms."""
    [(found,)] = query(url, "SELECT used_at FROM web_sessions")
    return int(found)


def test_a_page_is_shown_while_nothing_can_be_written_and_its_use_is_stored_later(server: Server) -> None:
    url = server.application.settings.url
    browser = new_member(server, "viewer").browser
    query(url, "UPDATE web_sessions SET used_at = used_at - ?", NOTE_EVERY_MS)
    before = used_at(url)
    with undone(url) as other:
        other.execute(LOCKS[url.partition(":")[0]])
        browser.open("/developers/webhooks")
        assert browser.status == 200
    until(lambda: used_at(url), lambda found: found >= before + NOTE_EVERY_MS)
