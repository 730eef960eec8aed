"""What answers hint at."""

import time

import pytest

from loyalpro.webhooks.answer_hints import MOST_READ_BYTES, hint_of

CASES = {
    "bot": (403, [("CF-Mitigated", "challenge")], "", "user agent"),
    "bot page": (503, [], "<title>Just a moment...</title>", "user agent"),
    "csrf": (403, [], "<p>CSRF verification failed. Request aborted.</p>", "CSRF checks"),
    "rails": (422, [], "Can't verify CSRF token authenticity", "CSRF checks"),
    "host": (400, [], "DisallowedHost at /in: Invalid HTTP_HOST header", "host name"),
    "signature": (401, [], '{"error":"invalid signature"}', "raw body"),
    "hmac": (400, [], "HMAC does not match", "raw body"),
    "duplicate": (500, [], "duplicate key value violates unique constraint", "seen this event"),
    "duplicate in mysql": (500, [], "Duplicate entry '7' for key 'PRIMARY'", "seen this event"),
    "sign-in": (401, [], '<form action="/login"><input type="password"></form>', "sign-in"),
    "sign-in by name": (403, [], "<title>Sign in to Acme</title>", "sign-in"),
    "express": (404, [], "<pre>Cannot POST /in</pre>", "path right"),
    "flask": (404, [], "The requested URL was not found on the server.", "path right"),
    "fastapi": (404, [], '{"detail":"Not Found"}', "path right"),
    "django": (404, [], "Using the URLconf defined in shop.urls", "path right"),
    "go": (404, [], "404 page not found\n", "path right"),
    "method": (405, [("Allow", "GET, HEAD")], "", "GET, HEAD only"),
    "size": (413, [], "", "64 KiB"),
    "redirect": (301, [("Location", "https://www.example.com/in")], "", "at https://www.example.com/in now"),
}
NOTHING = {
    "a success": (200, [], "invalid signature"),
    "a word that means something else with this status": (500, [], "signature of the method is wrong"),
    "an error without more": (500, [], "Internal Server Error"),
    "a method that may be taken": (405, [("allow", "GET, POST")], ""),
    "a redirect to nowhere": (302, [], ""),
    "a redirect that is no address": (302, [("location", "javascript:alert(1)")], ""),
    "a word behind what is read": (401, [], "x" * MOST_READ_BYTES + "signature"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_hints_at_its_cause(name: str) -> None:
    status, headers, body, words = CASES[name]
    hint = hint_of(status, headers, body.encode())
    assert hint is not None
    assert words in hint
    assert "may" in hint or status == 413


@pytest.mark.parametrize("name", NOTHING)
def test_an_answer_hints_at_nothing(name: str) -> None:
    status, headers, body = NOTHING[name]
    assert hint_of(status, headers, body.encode()) is None


def test_bytes_that_are_no_text_hint_at_nothing() -> None:
    assert hint_of(500, [], bytes(range(256))) is None


def reading_s(body: bytes) -> float:
    """The processor time that it takes to read a body, the least of some."""
    found = []
    for _ in range(5):
        start_s = time.process_time()
        hint_of(500, [], body)
        found.append(time.process_time() - start_s)
    return min(found)


@pytest.mark.parametrize("unit", [b"<form", b"<form ", b"<input ", b"<title>"])
def test_the_time_grows_with_the_body_and_not_with_its_square(unit: bytes) -> None:
    body = (unit * MOST_READ_BYTES)[:MOST_READ_BYTES]
    assert reading_s(body) < 3 * reading_s(body[: MOST_READ_BYTES // 2])
