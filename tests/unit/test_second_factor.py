"""Codes of the second factor, against the test vectors of RFC 6238, and the codes that people type."""

import base64
import random

import pytest

from loyalpro.accounts.second_factor import STEP_MS, code_at, step_of
from loyalpro.accounts.tokens import new_code, new_token, typed_code

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_the_codes_are_those_of_the_rfc(second: int, code: str) -> None:
    assert code_at(SECRET, second // 30) == code
    assert step_of(SECRET, code, second * 1_000) == second // 30


def test_a_code_is_accepted_one_step_early_and_one_step_late() -> None:
    step = 50_000_000
    code, at = code_at(SECRET, step), step * STEP_MS
    assert [step_of(SECRET, code, at + off * STEP_MS) for off in (-2, -1, 0, 1, 2)] == [None, step, step, step, None]
    assert step_of(SECRET, f" {code[:3]} {code[3:]} ", at) == step


@pytest.mark.parametrize("wrong", ["", "000000", "28708", "2870822", "２８７０８２", "abcdef", "\ud800"])
def test_everything_else_is_refused(wrong: str) -> None:
    assert step_of(SECRET, wrong, 59_000) is None


def test_a_code_is_found_as_people_type_it() -> None:
    code = new_code(random.Random(1).randbytes, 10)
    assert len(code) == 19
    assert code.count("-") == 3
    for typed in (code, code.upper(), code.replace("-", ""), f"  {code.replace('-', ' ')} ", code.replace("o", "0")):
        assert typed_code(typed) == code


def test_a_token_has_256_bits_and_fits_into_a_url() -> None:
    token = new_token(random.Random(1).randbytes)
    assert len(token) == 43
    assert base64.urlsafe_b64decode(token + "=") == random.Random(1).randbytes(32)
