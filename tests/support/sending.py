"""Runs a sender against receivers of a test, and the scripts of receivers that misbehave."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Any

from loyalpro.delivery.attempt import OutgoingRequest, SendResult
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.sender import CurlSender
from support.receivers import Authority, Hit, Script

LOCAL = AddressPolicy([ip_network("127.0.0.0/8"), ip_network("::1/128")])
HEADERS = (("Content-Type", "application/json"), ("X-Case", "Kept"))


def run(authority: Authority, use: Callable[[CurlSender], Awaitable[Any]], policy: AddressPolicy = LOCAL) -> Any:
    """Run `use` with a started sender."""

    async def main() -> Any:
        sender = CurlSender(policy, authority.ca_file)
        await sender.start()
        try:
            return await use(sender)
        finally:
            await sender.stop()

    return asyncio.run(main())


def request(url: str, timeout_s: float = 10, body: bytes = b'{"a":1}') -> OutgoingRequest:
    """A request to this URL."""
    return OutgoingRequest(url, HEADERS, body, timeout_s)


def sent(authority: Authority, url: str, timeout_s: float = 10, policy: AddressPolicy = LOCAL) -> SendResult:
    """The result of one request to this URL."""
    result: SendResult = run(authority, lambda sender: sender.send(request(url, timeout_s)), policy)
    return result


def reset(connection: socket.socket, *, after: bytes = b"") -> None:
    """Send `after`, and close with RST."""
    connection.sendall(after)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    os.close(connection.detach())


def forever(first: bytes, more: bytes, pause_s: float = 0.0) -> Script:
    """Send `first`, and then `more` again and again."""

    def script(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(first)
        connection.settimeout(pause_s or None)
        while True:
            if pause_s:
                try:
                    if not connection.recv(1):
                        return
                except TimeoutError:
                    pass
            connection.sendall(more)

    return script


def sending(data: bytes) -> Script:
    """Send these bytes and close."""

    def script(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return script
