"""Text that somebody else wrote is shown as text, with marks for what cannot be seen."""

import pytest
from markupsafe import Markup

from loyalpro.web.dashboard.foreign import finalize, shown
from loyalpro.web.dashboard.render import TEMPLATES


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("plain", "plain"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("of a form\r\nof Windows", "of a form\nof Windows"),
        ("overwritten\rback", "overwritten␍back"),
        ("bell\x07 escape\x1b[31m", "bell␇ escape␛[31m"),
        ("null\x00", "null␀"),
        ("delete\x7f", "delete␡"),
        ("next line\x85", "next line⟨U+0085⟩"),
        ("moc.live\u202egnp.exe", "moc.live⟨U+202E⟩gnp.exe"),
        ("\u2066isolated\u2069", "⟨U+2066⟩isolated⟨U+2069⟩"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("\ufeffmark", "⟨U+FEFF⟩mark"),
        ("tag\U000e0041", "tag⟨U+E0041⟩"),
        ("half \ud83d", "half ⟨U+D83D⟩"),
        ("مريم حسن", "مريم حسن"),
        ("می‌خواهم", "می‌خواهم"),
        ("👩‍👧 café 日本", "👩‍👧 café 日本"),
    ],
)
def test_what_cannot_be_seen_is_marked_and_languages_stay_as_they_are(text: str, marked: str) -> None:
    assert shown(text) == marked


def test_every_value_of_a_template_is_escaped_and_marked() -> None:
    rendered = TEMPLATES.from_string('<a title="{{ x }}">{{ x }}</a>').render(x='"><script>\u202e')
    assert rendered == ('<a title="&#34;&gt;&lt;script&gt;⟨U+202E⟩">&#34;&gt;&lt;script&gt;⟨U+202E⟩</a>')


def test_markup_and_numbers_stay_as_they_are() -> None:
    assert finalize(Markup("<b>\u202e</b>")) == "<b>\u202e</b>"
    assert finalize(3) == 3
