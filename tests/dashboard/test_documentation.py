"""The documentation in the dashboard: every page, its links, and what is filled in for the reader."""

import re
from collections.abc import Iterator
from html import unescape

import pytest

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.web.dashboard.guides import PATH, Guide, by_slug, markup, target, text_of
from loyalpro.webhooks.snippets import FRAMEWORKS
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server

LINK = re.compile(r'href="(/documentation[^"]*)"')
ID = re.compile(r' id="([^"]+)"')
GUIDES = list(by_slug().values())


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.slug)
def test_every_link_of_a_page_leads_to_a_place_that_exists(guide: Guide) -> None:
    for link in LINK.findall(markup(text_of(guide), guide.source, "http://here")):
        path, _, anchor = link.partition("#")
        name = path.removeprefix(PATH).strip("/")
        assert name in {"", *by_slug(), *EVENT_TYPES}
        if anchor and anchor != "frameworks":
            found = by_slug()[name]
            assert anchor in ID.findall(markup(text_of(found), found.source, "http://here"))


def test_html_and_links_to_scripts_are_text() -> None:
    found = markup(
        "<b>x</b> [a](javascript:alert(1)) [b](https://loyalpro.example/) ![c](d) [e](ftp://f/)", "reference/api.md", ""
    )
    assert "<b>" not in found
    assert 'href="javascript' not in found
    assert "ftp:" not in found
    assert "<img" not in found
    assert '<a href="https://loyalpro.example/">b</a>' in found


def test_a_link_to_what_has_no_page_is_its_text() -> None:
    assert target("reference/webhooks.md", "../operating.md#where-deliveries-may-go") is None
    assert target("reference/webhooks.md", "../../../../etc/passwd") is None
    assert target("reference/webhooks.md", "#retries") == f"{PATH}/answers#retries"
    assert target("reference/webhooks.md", "api.md#replays") == f"{PATH}/api-replays"
    assert target("getting-started.md", "receivers.md#python") == f"{PATH}/verification#frameworks"


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.fixture(scope="module")
def reader(server: Server) -> Signed:
    return new_member(server, "viewer", "reader@example.com")


def read(reader: Signed, name: str) -> str:
    """The text of a page, as a person reads it."""
    reader.browser.open(f"{PATH}/{name}" if name else PATH)
    assert reader.browser.status == 200, reader.browser.text
    return unescape(re.sub(r"<[^>]+>", "", reader.browser.text))


def test_the_contents_name_every_page_and_every_event_type(server: Server, reader: Signed) -> None:
    read(reader, "")
    linked = set(LINK.findall(reader.browser.text))
    assert linked >= {f"{PATH}/{name}" for name in (*by_slug(), *EVENT_TYPES)}


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_type_has_its_fields_a_sample_and_its_schema(server: Server, reader: Signed, name: str) -> None:
    text = read(reader, name)
    assert EVENT_TYPES[name].description in text
    assert all(each in text for each in EVENT_TYPES[name].fields)
    assert f'"type": "{name}"' in text
    assert f'"const": "{name}"' in text


def test_a_page_has_the_address_of_the_readers_server(server: Server, reader: Signed) -> None:
    text = read(reader, "local-development")
    assert f"curl http://127.0.0.1:{server.port}/v1/webhook_endpoints" in text
    assert "127.0.0.1:8700" not in text


def test_receivers_are_written_for_the_readers_endpoint(server: Server, reader: Signed) -> None:
    assert "example URL" in read(reader, "verification")
    server.post("/v1/webhook_endpoints", {"url": "https://localhost:1024/loyal/in", "events": ["points.earned"]})
    for framework, label in FRAMEWORKS.items():
        text = read(reader, f"verification?framework={framework}")
        assert label in text
        assert "loyal/in" in text.partition("A receiver in your framework")[2].partition("LOYALPRO_WEBHOOK_SECRET")[2]


def test_there_is_no_page_of_another_name(server: Server, reader: Signed) -> None:
    reader.browser.open(f"{PATH}/nothing")
    assert reader.browser.status == 404
