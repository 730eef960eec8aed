"""Colors of code: a class for what is a keyword, a text, a number or a comment. Everything is escaped."""

from functools import lru_cache
from typing import Any, Final

from markupsafe import Markup
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, String

from loyalpro.web.dashboard.foreign import shown

_CLASSES: Final = (
    (Comment, "c"),
    (String, "s"),
    (Number, "n"),
    (Keyword.Constant, "n"),
    (Keyword, "k"),
    (Name.Tag, "k"),
)
_SPAN: Final = Markup('<span class="{}">{}</span>')


@lru_cache(maxsize=64)
def highlight(code: str, language: str) -> Markup:
    """The code as markup. `language`: as Pygments names it."""
    tokens = get_lexer_by_name(language, stripnl=False).get_tokens(code)
    return Markup("").join(_marked(kind, text) for kind, text in tokens)


def _marked(kind: Any, text: str) -> str | Markup:
    name = next((name for token, name in _CLASSES if kind in token), None)
    return shown(text) if name is None else _SPAN.format(name, shown(text))
