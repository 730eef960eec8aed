"""Erases a customer's past, piece by piece, on a connection of the test."""

from dataclasses import dataclass

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.entities import Erasure
from loyalpro.loyalty.erasure import ErasurePiece, erase_next
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.erasures import ErasureTables


@dataclass(frozen=True, slots=True)
class _Unit:
    now: UnixMs
    erasures: ErasureTables


def begin_erasure(
    connection: Connection, account_id: str, customer_id: str, through_sequence: int, now: UnixMs
) -> None:
    """Store an erasure of the customer's events up to this one."""
    ErasureTables(connection).insert(
        Erasure(customer_id, account_id, through_sequence, None, None, events=0, canceled=0), now
    )


def erase_piece(connection: Connection, customer_id: str, now: UnixMs) -> ErasurePiece:
    """Erase the next piece."""
    return erase_next(_Unit(now, ErasureTables(connection)), customer_id)
