"""Currencies and how many minor units each has: ISO 4217."""

from fractions import Fraction
from functools import lru_cache
from typing import Final

from loyalpro.kernel.errors import InvalidInput

_TWO = """AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR
KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN
PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD
TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"""
_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"

MINOR_DIGITS: Final[dict[str, int]] = {
    code: digits for digits, codes in ((2, _TWO), (0, _ZERO), (3, _THREE)) for code in codes.split()
}


def minor_units(currency: str) -> int:
    """How many minor units one unit has: 100 for EUR, 1 for JPY, 1000 for KWD. Raises `InvalidInput` `unknown_currency`."""
    if currency not in MINOR_DIGITS:
        raise InvalidInput(
            f"{currency[:16]!r} is not an ISO 4217 currency code, such as EUR.",
            code="unknown_currency",
            param="currency",
        )
    return int(10 ** MINOR_DIGITS[currency])


@lru_cache(maxsize=256)
def exchange_rate(currency: str, into: str, rate: str) -> Fraction:
    """What one minor unit of `currency` is worth in minor units of `into`. `rate`: between major units, such as `0.0061`."""
    return Fraction(rate) * minor_units(into) / minor_units(currency)
