"""What no template may contain: inline styles and scripts, unescaped values, and what htmx would need `eval` for."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loyalpro.web import dashboard
from loyalpro.web.dashboard.render import TEMPLATES

FOLDER = Path(dashboard.__file__).parent
NAMES = sorted(TEMPLATES.list_templates())
FORBIDDEN = {
    "an inline style": r"\sstyle\s*=",
    "an inline script": r"<script(?! src=\"\{\{ asset)",
    "a handler": r"\son[a-z]+\s*=",
    "a handler of htmx": r"hx-on",
    "values by a script": r"\bjs:|javascript:",
    "a filter of an event": r"hx-trigger=\"[^\"]*\[",
    "a disabled escape": r"autoescape\s+false",
    "a file of another site": r"(?:src|href)=\"(?:https?:)?//",
    "a link that a stranger could write": r"(?:href|src|action)=\"\{\{ *(?:url|endpoint\.url)",
}
SAFE = re.compile(r"\| *safe")
MAY_BE_SAFE = {"parts.html": 1}
"""Templates with values that are markup by themselves, and how many: the shapes of icons."""


def source(name: str) -> str:
    assert TEMPLATES.loader is not None
    return TEMPLATES.loader.get_source(TEMPLATES, name)[0]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_template_has(what: str) -> None:
    found = [name for name in NAMES if re.search(FORBIDDEN[what], source(name), re.IGNORECASE)]
    assert found == []


def test_only_shapes_of_icons_are_markup_by_themselves() -> None:
    assert {name: len(SAFE.findall(source(name))) for name in NAMES if SAFE.search(source(name))} == MAY_BE_SAFE


def test_the_search_finds_what_it_looks_for() -> None:
    bad = {
        "an inline style": '<p style="x">',
        "an inline script": "<script>x</script>",
        "a handler": "<p onclick=x>",
        "a handler of htmx": '<p hx-on:click="x">',
        "values by a script": "hx-vals='js:{a: 1}'",
        "a filter of an event": '<p hx-trigger="every 2s [x]">',
        "a disabled escape": "{% autoescape false %}",
        "a file of another site": '<img src="//evil.example">',
        "a link that a stranger could write": '<a href="{{ url }}">',
    }
    assert [what for what, text in bad.items() if not re.search(FORBIDDEN[what], text, re.IGNORECASE)] == []
    assert bad.keys() == FORBIDDEN.keys()


def test_no_python_of_the_dashboard_makes_markup_of_what_it_was_given() -> None:
    made = [
        (path.name, line.strip())
        for path in FOLDER.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"Markup\((?!['\"])", line)
    ]
    allowed = {"guides.py": "Markdown, which a library escapes", "me.py": "a second factor, which a library draws"}
    assert sorted(name for name, _ in made) == sorted(allowed)


class _Requests(HTMLParser):
    """Collects elements that send requests by htmx and are no link and no form."""

    def __init__(self) -> None:
        super().__init__()
        self.alone: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {name for name, _ in attrs}
        polls = any(name == "hx-trigger" and "every" in (value or "") for name, value in attrs)
        sends = names & {"hx-get", "hx-post", "hx-put", "hx-patch", "hx-delete"}
        inside = tag in ("a", "form") or "data-beside" in names
        if (
            sends
            and not inside
            and not polls
            and not ({"form", "formaction"} & names)
            and tag not in ("button", "input", "select")
        ):
            self.alone.append(f"<{tag} {' '.join(sorted(names))}>")


@pytest.mark.parametrize("name", NAMES)
def test_what_htmx_sends_has_a_link_or_a_form_under_it(name: str) -> None:
    parser = _Requests()
    parser.feed(re.sub(r"\{%.*?%\}|\{#.*?#\}", "", source(name), flags=re.DOTALL))
    assert parser.alone == []
