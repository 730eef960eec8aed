"""A certificate has to name its host as an alternative name: a common name is not enough, on any connection."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from loyalpro.delivery.attempt import OutcomeCode, SendResult, classify
from loyalpro.transport.certificate_names import CertificateNames
from loyalpro.transport.sender import CurlSender
from support.http2 import END_HEADERS, END_STREAM, HEADERS, STATUS_200, frame, http2
from support.receivers import Authority, Hit, RawServer, answer, good
from support.sending import request, run

HOST = "localhost:443"
NAMED = [(("Subject", "CN = a"), ("X509v3 Subject Alternative Name", "email:a@b, DNS:a"))]
UNNAMED = [(("Subject", "CN = a"), ("X509v3 Subject Alternative Name", "email:DNS@b, URI:https://DNS:a"))]


def respond(connection: socket.socket, stream: int) -> None:
    connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200))


def close_after(connection: socket.socket, _: Hit | None) -> None:
    """Respond, and end the connection: the next request resumes the TLS session on another one."""
    assert isinstance(connection, ssl.SSLSocket)
    connection.sendall(answer(200, b"{}", Connection="close"))
    connection.unwrap()


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_a_host_that_only_its_common_name_names_gets_no_request_until_its_certificate_is_renewed(
    authority: Authority, serve: Callable[..., RawServer], tmp_path: Path, protocol: str, newest: ssl.TLSVersion
) -> None:
    context = authority.context(common_name="localhost", named=False)
    context.maximum_version = newest
    context.set_alpn_protocols([protocol])
    requests: list[int] = []

    def record(connection: socket.socket, stream: int) -> None:
        requests.append(stream)
        respond(connection, stream)

    server = serve(http2(record), context=context, reads=False) if protocol == "h2" else serve(good, context=context)

    async def send(sender: CurlSender) -> tuple[list[SendResult], list[SendResult]]:
        refused = [await sender.send(request(server.url)) for _ in range(3)]
        refused += await asyncio.gather(*(sender.send(request(server.url)) for _ in range(5)))
        assert not requests
        assert not server.hits
        context.load_cert_chain(authority.certificate_file())
        return refused, [await sender.send(request(server.url))]

    refused, accepted = run(authority, send)
    assert [classify(each) for each in refused] == [OutcomeCode.TLS_HOSTNAME_MISMATCH] * 8
    assert "alternative name" in refused[0].detail
    assert [classify(each) for each in accepted] == [OutcomeCode.SUCCEEDED]
    assert len(requests) + len(server.hits) == 1


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_session_that_is_resumed_without_a_certificate_is_accepted(
    authority: Authority, serve: Callable[..., RawServer], newest: ssl.TLSVersion
) -> None:
    context = authority.context()
    context.maximum_version = newest
    server = serve(close_after, context=context)

    async def send(sender: CurlSender) -> list[SendResult]:
        return [await sender.send(request(server.url)) for _ in range(3)]

    assert [classify(each) for each in run(authority, send)] == [OutcomeCode.SUCCEEDED] * 3
    assert server.connections == 3
    assert context.session_stats()["hits"] == 2


def test_a_connection_without_a_certificate_is_as_good_as_the_last_certificate_of_its_host() -> None:
    names = CertificateNames()
    assert names.accepts(HOST, [])
    assert not names.accepts(HOST, UNNAMED)
    assert names.refuses(HOST)
    assert not names.accepts(HOST, [])
    assert names.accepts("localhost:444", [])
    assert names.accepts(HOST, NAMED)
    assert names.accepts(HOST, [])
    assert not names.refuses(HOST)


def test_a_connection_with_a_refused_certificate_is_not_used_after_the_certificate_is_renewed(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """libcurl would keep the HTTP/2 connection of a request that is refused before it is sent."""
    context = authority.context(common_name="localhost", named=False)
    context.set_alpn_protocols(["h2"])
    used: list[socket.socket] = []

    def record(connection: socket.socket, stream: int) -> None:
        used.append(connection)
        respond(connection, stream)

    server = serve(http2(record), context=context, reads=False)

    async def send(sender: CurlSender) -> set[socket.socket]:
        assert classify(await sender.send(request(server.url))) is OutcomeCode.TLS_HOSTNAME_MISMATCH
        refused = server.open_connections()
        context.load_cert_chain(authority.certificate_file())
        for _ in range(2):
            await sender.send(request(server.url))
        return refused

    refused = run(authority, send)
    assert used
    assert not refused & set(used)


def test_a_limited_number_of_hosts_is_remembered() -> None:
    names = CertificateNames()
    for number in range(10_001):
        assert not names.accepts(f"host-{number}", UNNAMED)
    assert [names.refuses(f"host-{number}") for number in (0, 1, 10_000)] == [False, True, True]
