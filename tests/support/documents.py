"""JSON documents and doubles that often break implementations. A seed makes each run repeatable."""

import math
import random
import struct
from typing import Any

_TEXTS = (
    "", "a", "é", "日本語", "\U0001f600", "\u2028\u2029", "\x00\x1f\x7f", '"\\/', "<&>'", "\ufeff", "\ufffd", "e\u0301",
    "\b\f\n\r\t", "-0", "1e5", "null", "\ud7ff\ue000", "x" * 300,
)  # fmt: skip
_KEYS = (
    "id",
    "a",
    "é",
    "01",
    "-1",
    "1.5",
    "+1",
    "1e3",
    " 1",
    "4294967295x",
    "toString",
    "\u2028",
    "\x7f",
    "'",
    "",
    "proto",
)


def awkward_doubles(rng: random.Random, random_ones: int) -> list[float]:
    """All powers of two and ten with their neighbors, the limits of the range, and `random_ones` random bit patterns."""
    found = [0.0, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 0.3, 1 / 3, 9007199254740993.0]
    for center in [2.0**n for n in range(-1074, 1024)] + [float(f"1e{n}") for n in range(-323, 309)]:
        found += [center, math.nextafter(center, 0), math.nextafter(center, math.inf)]
    found += [n / 1_000 for n in range(2_000)] + [float(2**53 + n) for n in range(-500, 500)]
    while random_ones:
        number = struct.unpack("<d", rng.randbytes(8))[0]
        if math.isfinite(number):
            found.append(number)
            random_ones -= 1
    return [each for number in found for each in (number, -number) if math.isfinite(each) and is_sent(each)]


def is_sent(number: float) -> bool:
    """Whether events may contain the number: not if its text would be an integer beyond 2^53-1."""
    return not 2**53 <= abs(number) < 1e21


def document(rng: random.Random, depth: int = 4) -> Any:
    """A random JSON value, at most `depth` levels deep."""
    kinds = 7 if depth else 5
    match rng.randrange(kinds):
        case 0:
            return rng.choice((None, True, False))
        case 1:
            return rng.choice((0, -1, 2**53 - 1, -(2**53) + 1, rng.randint(-(10**9), 10**9)))
        case 2:
            number: float = struct.unpack("<d", struct.pack("<Q", rng.getrandbits(62)))[0]
            return number if is_sent(number) else -0.0
        case 3:
            return rng.choice(_TEXTS)
        case 4:
            return "".join(chr(rng.choice((rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))) for _ in range(5))
        case 5:
            return [document(rng, depth - 1) for _ in range(rng.randrange(5))]
        case _:
            return {
                rng.choice(_KEYS) + rng.choice(("", "x")): document(rng, depth - 1) for _ in range(rng.randrange(6))
            }
