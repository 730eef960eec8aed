"""How numbers, times and names are written. Times are in the zone of the reader."""

from datetime import UTC, date, datetime, tzinfo
from typing import Final

from markupsafe import Markup, escape

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, rfc3339
from loyalpro.loyalty.money import MINOR_DIGITS
from loyalpro.web.dashboard.foreign import shown

MOST_COUNTED: Final = 10_000
NOTHING: Final = "\u2013"
"""A dash: there is no value."""
_NO_TIME: Final = Markup("\u2013")
_MS_PER_MINUTE: Final = 60 * MS_PER_S
_MS_PER_HOUR: Final = 60 * _MS_PER_MINUTE
_PRECISE_BELOW_MS: Final = 10
_TWO_DIGITS_BELOW_MS: Final = 10 * MS_PER_S
_KB: Final = 1_024
_TAIL: Final = 6
_DAYS_BY_NAME: Final = 6
_HALF: Final = 2
_MONTHS: Final = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def number(value: int) -> str:
    """`1284` -> `1,284`, with a true minus sign."""
    return f"{value:,}".replace("-", "\u2212")


def signed(value: int) -> str:
    """`50` -> `+50`, and `-300` with a true minus sign: for changes."""
    return f"+{number(value)}" if value > 0 else number(value)


def money(amount: int, currency: str) -> str:
    """Minor units of a currency: `191420`, `EUR` -> `1,914.20 EUR`."""
    digits = MINOR_DIGITS.get(currency, 0)
    whole, part = divmod(abs(amount), 10**digits)
    decimals = f".{part:0{digits}}" if digits else ""
    return f"{number(-1)[0] if amount < 0 else ''}{whole:,}{decimals} {currency}"


def count(value: int, most: int = MOST_COUNTED) -> str:
    """A number of rows, counted up to a limit: `1,284`, or `10,000+` beyond it."""
    return number(value) if value <= most else f"{number(most)}+"


def share(part: int, whole: int) -> str:
    """`93.41 %`. Never rounded to 100 % or 0 % when it is not; a dash for a share of nothing."""
    if whole == 0:
        return NOTHING
    hundredths = 10_000 * part // whole if part * _HALF > whole else -(-10_000 * part // whole)
    return f"{hundredths / 100:.2f}".removesuffix(".00") + " %"


def duration(ms: float | None) -> str:
    """`3.1 ms`, `61 ms`, `1.20 s`, `30.0 s`, `2 min 14 s`, `71 h 40 min`, `5 days`; a dash for None."""
    if ms is None:
        return NOTHING
    if ms < _PRECISE_BELOW_MS and ms != int(ms):
        return f"{ms:.1f} ms"
    if round(ms) < MS_PER_S:
        return f"{round(ms)} ms"
    if round(ms, -1) < _TWO_DIGITS_BELOW_MS:
        return f"{ms / MS_PER_S:.2f} s"
    if round(ms, -2) < _MS_PER_MINUTE:
        return f"{ms / MS_PER_S:.1f} s"
    return _long_duration(round(ms / MS_PER_S))


def _long_duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days = hours // 24
    if days > _HALF:
        return f"{days} days"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"


def size(value: int) -> str:
    """`1 byte`, `771 bytes`, `12.3 KB`, `1.5 MB`."""
    if value < _KB:
        return "1 byte" if value == 1 else f"{value} bytes"
    return f"{value / _KB:.1f} KB" if value < _KB * _KB else f"{value / _KB / _KB:.1f} MB"


def masked(text: str) -> str:
    """A name or an address for those who may not see it: the initials of its words and the last two characters."""
    words = text.split()
    if not words:
        return ""
    return " ".join(f"{word[0]}…" for word in words) + (text[-2:] if len(text) > _TAIL else "")


def tail(id_: str) -> str:
    """An id where there is little room: `dlv_…wp5zmg`."""
    prefix, _, rest = id_.partition("_")
    return f"{prefix}_…{rest[-_TAIL:]}"


def event_name(type_: str) -> Markup:
    """An event type, which may break behind its dot: `points.<wbr>earned`."""
    return Markup(".<wbr>").join(escape(shown(part)) for part in type_.split("."))


def day_text(day: date) -> str:
    """A day of the program's calendar: `24 Nov 2026`."""
    return f"{day_of(day)} {day.year}"


class Times:
    """Times as a reader in `zone` says them at `now`."""

    def __init__(self, zone: tzinfo, now: UnixMs) -> None:
        self._zone = zone
        self.now = now
        self._today = self._local(now).date()

    def exact(self, at: UnixMs | None) -> Markup:
        """`28 Nov 2026, 10:45:29.108`."""
        if at is None:
            return _NO_TIME
        local = self._local(at)
        return self._time(at, f"{day_of(local.date())} {local.year}, {local:%H:%M:%S}.{at % MS_PER_S:03d}")

    def clock(self, at: UnixMs | None) -> Markup:
        """`10:45:29` today, and `25 Nov` on another day: for the columns of tables."""
        if at is None:
            return _NO_TIME
        local = self._local(at)
        return self._time(at, f"{local:%H:%M:%S}" if local.date() == self._today else self._date(local.date()))

    def short(self, at: UnixMs | None) -> Markup:
        """`today, 10:32:04`, `tomorrow, 10:05`, `Sun 29 Nov, 10:05`, `24 Nov 2025, 10:05`: for sentences."""
        if at is None:
            return _NO_TIME
        local = self._local(at)
        days = (local.date() - self._today).days
        named = {0: "today", 1: "tomorrow", -1: "yesterday"}.get(days)
        if named is not None:
            return self._time(at, f"{named}, {local:{'%H:%M:%S' if days == 0 else '%H:%M'}}")
        weekday = f"{_WEEKDAYS[local.weekday()]} " if abs(days) <= _DAYS_BY_NAME else ""
        return self._time(at, f"{weekday}{self._date(local.date())}, {local:%H:%M}")

    def day(self, at: UnixMs | None) -> Markup:
        """`24 Nov 2026`."""
        if at is None:
            return _NO_TIME
        local = self._local(at)
        return self._time(at, f"{day_of(local.date())} {local.year}")

    def ago(self, at: UnixMs | None) -> Markup:
        """`now`, `5 s ago`, `4 min ago`, `3 h ago`, then the day. A script keeps it up to date."""
        if at is None:
            return _NO_TIME
        return self._time(at, self._relative(at), relative=True)

    def _relative(self, at: UnixMs) -> str:
        gone = self.now - at
        if gone < MS_PER_S:
            return "now" if gone > -MS_PER_S else f"in {duration(-gone)}"
        if gone < _MS_PER_MINUTE:
            return f"{gone // MS_PER_S} s ago"
        if gone < _MS_PER_HOUR:
            return f"{gone // _MS_PER_MINUTE} min ago"
        return f"{gone // _MS_PER_HOUR} h ago" if gone < MS_PER_DAY else self._date(self._local(at).date())

    def _date(self, day: date) -> str:
        return day_of(day) if day.year == self._today.year else f"{day_of(day)} {day.year}"

    def _local(self, at: UnixMs) -> datetime:
        return datetime.fromtimestamp(at // MS_PER_S, UTC).astimezone(self._zone)

    def _time(self, at: UnixMs, text: str, *, relative: bool = False) -> Markup:
        instant = rfc3339(at)
        mark = Markup(" data-relative") if relative else ""
        return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(instant, instant, mark, text)


def day_of(day: date) -> str:
    """`28 Nov`."""
    return f"{day.day} {_MONTHS[day.month]}"
