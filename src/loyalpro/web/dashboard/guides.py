"""The documentation as pages: the Markdown of `docs`, cut at its headings, with links that lead from page to page."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record
from loyalpro.web.dashboard.highlight import highlight

PATH: Final = "/documentation"
SERVER: Final = "http://127.0.0.1:8700"
"""How the Markdown writes the address of the server."""
_RECEIVERS: Final = f"{PATH}/verification#frameworks"
"""Where the receivers of `docs/receivers.md` are, in more frameworks and for the reader's endpoint."""
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_DEEP: Final = re.compile(r"^#(#{2,4} )", re.MULTILINE)
_FENCE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LANGUAGES: Final = frozenset({"bash", "go", "http", "javascript", "js", "json", "php", "python", "sh", "text"})
_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)


@record
class Guide:
    """A page. `source`: the file of `docs` that it is from. `headings`: its sections there; empty for the whole file."""

    slug: str
    title: str
    source: str
    headings: tuple[str, ...] = ()
    group: str = "Webhooks"


GUIDES: Final[Sequence[Guide]] = (
    Guide("overview", "The request and its body", "reference/webhooks.md", ("The request", "The body")),
    Guide("verification", "Verification", "reference/webhooks.md", ("Signatures",)),
    Guide("answers", "Answers and retries", "reference/webhooks.md", ("What to answer", "Retries")),
    Guide("best-practice", "Duplicates and order", "reference/webhooks.md", ("Duplicates", "Order")),
    Guide("replays", "Pause, replay and resend", "reference/webhooks.md", ("Pause, replay and resend",)),
    Guide("outcomes", "Outcomes", "reference/webhooks.md", ("Outcomes",)),
    Guide("local-development", "Local development", "getting-started.md"),
    Guide("errors", "Errors", "reference/errors.md", group="API"),
)
"""The pages about everything but the calls of the API and the event types, in their order."""


def slug_of(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def api_guides() -> Sequence[Guide]:
    """A page for each section of the API reference."""
    source = "reference/api.md"
    return [Guide(f"api-{slug_of(each)}", each, source, (each,), "API") for each in _sections(source)]


@cache
def by_slug() -> Mapping[str, Guide]:
    """Every page by the last part of its address."""
    return {each.slug: each for each in (*GUIDES, *api_guides())}


def event_text(event_type: str) -> str:
    """The Markdown about one event type: what it says, its fields, and a sample."""
    return _sections("reference/events.md")[f"`{event_type}`"]


def text_of(guide: Guide) -> str:
    """The Markdown of a page. The heading of a page with one section is its title."""
    if not guide.headings:
        return _whole(guide.source)
    sections = _sections(guide.source)
    if len(guide.headings) == 1:
        return _DEEP.sub(r"\1", sections[guide.headings[0]])
    return "".join(f"## {each}\n{sections[each]}" for each in guide.headings)


def markup(text: str, source: str, server: str) -> Markup:
    """Markdown as HTML. `source`: the file that it is from. `server`: the address of this server, as the reader knows it.

    HTML in it is shown as text. A link to what has no page here is only its text.
    """
    return Markup(_markdown().render(text.replace(SERVER, server), {"source": source}))  # noqa: S704 - escaped by the parser


@cache
def _whole(source: str) -> str:
    """A file without its title."""
    text = _COMMENT.sub("", (_folder() / source).read_text("utf-8"))
    return text.partition("\n")[2].strip() + "\n"


@cache
def _sections(source: str) -> dict[str, str]:
    """The sections of a file by their headings. A line of code is no heading."""
    text = _whole(source)
    code = [range(*each.span()) for each in _FENCE.finditer(text)]
    found = [each for each in _HEADING.finditer(text) if not any(each.start() in part for part in code)]
    ends = [each.start() for each in found[1:]] + [len(text)]
    return {each[1]: text[each.end() + 1 : end] for each, end in zip(found, ends, strict=True)}


def _folder() -> Traversable:
    """The Markdown: in the wheel beside this module, and in a checkout where it is written."""
    packaged = files(__package__) / "guides"
    return packaged if packaged.is_dir() else Path(__file__).parents[4] / "docs"


@cache
def _places() -> Mapping[tuple[str, str], str]:
    """Where each heading of each file is shown: file and anchor to path. The anchor "" is the file itself."""
    found: dict[tuple[str, str], str] = {}
    for guide in by_slug().values():
        path = f"{PATH}/{guide.slug}"
        found.setdefault((guide.source, ""), path)
        for each in guide.headings:
            anchor = f"#{slug_of(each)}" if len(guide.headings) > 1 else ""
            found[guide.source, slug_of(each)] = path + anchor
        for each in re.findall(r"^#{2,4} (.+)$", text_of(guide), re.MULTILINE):
            found.setdefault((guide.source, slug_of(each)), f"{path}#{slug_of(each)}")
    for each in _sections("reference/events.md"):
        found["reference/events.md", slug_of(each)] = f"{PATH}/{each.strip('`')}"
    return found | {
        ("reference/events.md", ""): PATH,
        ("reference/webhooks.md", ""): PATH,
        ("reference/api.md", ""): PATH,
    }


def target(source: str, link: str) -> str | None:
    """Where a link of a file leads in the documentation; None for what has no page."""
    parts = urlsplit(link)
    if parts.scheme:
        return link if parts.scheme == "https" else None
    file = source
    if parts.path:
        file = str((Path("/", source).parent / parts.path).resolve().relative_to("/"))
    return _RECEIVERS if file == "receivers.md" else _places().get((file, parts.fragment))


class _Renderer(RendererHTML):
    """Writes tables, code and links with the classes of the dashboard."""

    def table_open(self, *_: Any) -> str:
        return '<div class="panel scrolls" tabindex="0" role="group" aria-label="Table"><table class="table">'

    def table_close(self, *_: Any) -> str:
        return "</table></div>"

    def fence(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:
        token = tokens[idx]
        language = token.info.strip()
        code = highlight(token.content, language if language in _LANGUAGES else "text")
        return str(Markup('<div class="code"><pre tabindex="0" aria-label="Code">{}</pre></div>').format(code))

    def heading_open(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:
        return str(Markup('<{} id="{}">').format(tokens[idx].tag, slug_of(tokens[idx + 1].content)))

    def link_open(self, tokens: Sequence[Token], idx: int, _options: Any, env: Any) -> str:
        path = target(env["source"], str(tokens[idx].attrs["href"]))
        return "<span>" if path is None else str(Markup('<a href="{}">').format(path))

    def link_close(self, tokens: Sequence[Token], idx: int, _options: Any, env: Any) -> str:
        opened = pull(each for each in reversed(tokens[:idx]) if each.type == "link_open")
        return "</span>" if target(env["source"], str(opened.attrs["href"])) is None else "</a>"

    def image(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:
        """Its words: the policy of the pages allows no picture of elsewhere."""
        return str(escape(tokens[idx].content))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
