"""CurlSender against receivers of every kind: the right outcome code, in bounded time and with bounded memory."""

import asyncio
import datetime as dt
import os
import resource
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Response, SendResult, classify
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.limits import MAX_EXCERPT_BYTES, MAX_HEADER_LINES
from loyalpro.transport.sender import CurlSender
from support.node import executable
from support.receivers import Authority, Hit, RawServer, Script, answer, good, hold
from support.sending import LOCAL, forever, request, reset, run, sending, sent

TIMEOUT_S = 0.6


def open_descriptors() -> int:
    """Return how many file descriptors this process and its children hold."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ["self", *children])


def test_a_request_is_sent_byte_for_byte(authority: Authority, serve: Callable[..., RawServer]) -> None:
    server = serve(good)
    result = sent(authority, server.url)
    assert classify(result) is OutcomeCode.SUCCEEDED
    [hit] = server.hits
    assert hit.head == "POST /hook HTTP/1.1"
    assert hit.body == b'{"a":1}'
    assert {"Content-Type": "application/json", "X-Case": "Kept", "Content-Length": "7"}.items() <= hit.headers.items()
    assert not {"Accept-Encoding", "Cookie", "Expect", "Authorization"} & hit.headers.keys()
    assert result.remote_ip == "127.0.0.1"
    assert None not in (result.timings.connect_ms, result.timings.tls_ms, result.timings.first_byte_ms)


@pytest.mark.parametrize("accept", [(), (("Accept", "application/json"),)])
def test_libcurl_adds_no_headers_of_its_own(
    authority: Authority, serve: Callable[..., RawServer], accept: tuple[tuple[str, str], ...]
) -> None:
    heads: list[bytes] = []

    def record_head(connection: socket.socket, _: Hit | None) -> None:
        heads.append(connection.recv(65_536))
        connection.sendall(answer(200))

    url = serve(record_head, reads=False).url
    headers = (("Content-Type", "application/json"), ("User-Agent", "Us"), *accept)
    run(authority, lambda sender: sender.send(OutgoingRequest(url, headers, b"{}", 10)))
    _, *lines = heads[0].partition(b"\r\n\r\n")[0].decode().split("\r\n")
    names = [line.partition(":")[0] for line in lines]
    assert sorted(names) == sorted(["Host", "Content-Length", *(name for name, _ in headers)])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, OutcomeCode.SUCCEEDED), (299, OutcomeCode.SUCCEEDED), (301, OutcomeCode.HTTP_3XX), (404, OutcomeCode.HTTP_4XX),
        (410, OutcomeCode.GONE), (429, OutcomeCode.HTTP_4XX), (500, OutcomeCode.HTTP_5XX), (999, OutcomeCode.HTTP_OTHER),
    ],
)  # fmt: skip
def test_every_status_has_its_code(
    authority: Authority, serve: Callable[..., RawServer], status: int, outcome: OutcomeCode
) -> None:
    server = serve(lambda connection, _: connection.sendall(answer(status)))
    result = sent(authority, server.url)
    assert classify(result) is outcome
    assert result.response is not None
    assert result.response.status == status


BAD: dict[str, tuple[Script, set[OutcomeCode]]] = {
    "hangs before the response": (hold, {OutcomeCode.TIMEOUT}),
    "hangs inside the headers": (forever(b"HTTP/1.1 200 OK\r\n", b"", 5), {OutcomeCode.TIMEOUT}),
    "drips headers": (forever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.05), {OutcomeCode.TIMEOUT}),
    "never ends its headers": (
        forever(b"HTTP/1.1 200 OK\r\n", b"X-Y: " + b"z" * 1_000 + b"\r\n"),
        {OutcomeCode.RESPONSE_HEADERS_TOO_LARGE},
    ),
    "has too many headers": (
        forever(b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * MAX_HEADER_LINES, b"", 5),
        {OutcomeCode.RESPONSE_HEADERS_TOO_LARGE},
    ),
    "never ends its interim responses": (
        forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        {OutcomeCode.RESPONSE_HEADERS_TOO_LARGE},
    ),
    "closes without a response": (sending(b""), {OutcomeCode.CONNECTION_LOST}),
    "resets": (lambda connection, _: reset(connection), {OutcomeCode.CONNECTION_LOST}),
    "speaks another protocol": (sending(b"SSH-2.0-OpenSSH_9.2\r\n"), {OutcomeCode.INVALID_RESPONSE}),
    "speaks HTTP/0.9": (sending(b"<html>hello</html>"), {OutcomeCode.INVALID_RESPONSE}),
    "sends garbage": (sending(bytes(range(256)) * 4), {OutcomeCode.INVALID_RESPONSE}),
    "has a status of four digits": (
        sending(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        {OutcomeCode.INVALID_RESPONSE},
    ),
    "has no valid status after an interim response": (
        sending(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
        {OutcomeCode.INVALID_RESPONSE},
    ),
    "closes after an interim response": (sending(b"HTTP/1.1 100 Continue\r\n\r\n"), {OutcomeCode.CONNECTION_LOST}),
    "switches protocols": (
        sending(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        {OutcomeCode.HTTP_OTHER},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_misbehaving_receiver_ends_in_time_with_its_code(
    authority: Authority, serve: Callable[..., RawServer], kind: str
) -> None:
    script, expected = BAD[kind]
    began_s = time.monotonic()
    result = sent(authority, serve(script).url, TIMEOUT_S)
    assert classify(result) in expected, result
    assert result.detail
    assert time.monotonic() - began_s < TIMEOUT_S + 5


def test_a_body_without_end_is_kept_as_an_excerpt_and_its_status_decides(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    server = serve(forever(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65_536))
    result = sent(authority, server.url)
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert result.response is not None
    assert result.response.truncated
    assert result.response.body_excerpt == b"x" * MAX_EXCERPT_BYTES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50 * 1_024


def test_headers_are_kept_in_order_without_those_of_interim_responses(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    lines = [f"X-{number}:  {number} : \xe4 " for number in range(MAX_HEADER_LINES - 10)]
    head = "\r\n".join(["HTTP/1.1 200 it: is well", *lines, "Content-Length: 0"])
    interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    data = f"{interim}{head}\r\n\r\n".encode("latin-1")
    result = sent(authority, serve(lambda connection, _: connection.sendall(data)).url)
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert result.response is not None
    kept = [(f"X-{number}", f"{number} : \xe4") for number in range(MAX_HEADER_LINES - 10)]
    assert result.response.headers == (*kept, ("Content-Length", "0"))


@pytest.mark.parametrize(
    ("rest", "headers"),
    [
        (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nHTTP/1.1 500 No: b\r\n\r\n",
            (("Transfer-Encoding", "chunked"),),
        ),
        (b"HTTP/a: b\r\nContent-Length: 2\r\n\r\n{}", (("HTTP/a", "b"), ("Content-Length", "2"))),
    ],
    ids=["in trailers", "among headers"],
)
def test_text_that_looks_like_a_status_line_starts_no_other_response(
    authority: Authority, serve: Callable[..., RawServer], rest: bytes, headers: tuple[tuple[str, str], ...]
) -> None:
    server = serve(lambda connection, _: connection.sendall(b"HTTP/1.1 200 OK\r\n" + rest))
    result = sent(authority, server.url)
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert result.response is not None
    assert (result.response.status, result.response.headers) == (200, headers)
    assert result.response.body_excerpt == b"{}"


HTTP_2 = """
const pem = require("node:fs").readFileSync(process.argv[1]);
const server = require("node:http2").createSecureServer({key: pem, cert: pem});
server.on("stream", (stream) => {
  stream.on("wantTrailers", () => stream.sendTrailers({"http": "x"}));
  stream.additionalHeaders({":status": 103, "link": "</a>"});
  stream.respond({":status": 200, "x-a": "b: c"}, {waitForTrailers: true, sendDate: false});
  stream.end("{}");
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


def test_http_2_responses_are_read_in_the_same_way(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.context()
    program = [str(executable()), "-e", HTTP_2, str(tmp_path / "receiver-1.pem")]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        result = sent(authority, f"https://localhost:{int(server.stdout.readline())}/")
        server.kill()
    assert result.response == Response(200, (("x-a", "b: c"),), b"{}", truncated=False)
    assert classify(result) is OutcomeCode.SUCCEEDED


def test_a_compressed_response_is_not_decompressed(authority: Authority, serve: Callable[..., RawServer]) -> None:
    import gzip

    packed = gzip.compress(b"\0" * 10_000_000)
    server = serve(lambda connection, _: connection.sendall(answer(200, packed, Content_Encoding="gzip")))
    result = sent(authority, server.url)
    assert result.response is not None
    assert result.response.body_excerpt == packed[:MAX_EXCERPT_BYTES]


def test_redirects_are_not_followed_and_cookies_not_kept(authority: Authority, serve: Callable[..., RawServer]) -> None:
    elsewhere = serve(good)
    server = serve(
        lambda connection, _: connection.sendall(answer(307, b"", Location=elsewhere.url, Set_Cookie="a=b; Path=/"))
    )

    async def twice(sender: CurlSender) -> list[SendResult]:
        return [await sender.send(request(server.url)) for _ in range(2)]

    assert [classify(result) for result in run(authority, twice)] == [OutcomeCode.HTTP_3XX] * 2
    assert elsewhere.connections == 0
    assert all("Cookie" not in hit.headers for hit in server.hits)


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [
        ({"ends": -dt.timedelta(hours=1)}, OutcomeCode.TLS_CERTIFICATE_EXPIRED),
        ({"starts": dt.timedelta(hours=1)}, OutcomeCode.TLS_CERTIFICATE_NOT_YET_VALID),
        ({"names": ("example.com",)}, OutcomeCode.TLS_HOSTNAME_MISMATCH),
        ({"self_signed": True}, OutcomeCode.TLS_UNTRUSTED),
        ({"newest": ssl.TLSVersion.TLSv1_1}, OutcomeCode.TLS_FAILED),
    ],
    ids=["expired", "not yet valid", "another name", "self-signed", "TLS 1.1 only"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_each_kind_of_bad_certificate_has_its_code(
    authority: Authority, serve: Callable[..., RawServer], certificate: dict[str, Any], expected: OutcomeCode
) -> None:
    names = certificate.pop("names", ())
    server = serve(good, context=authority.context(*names, **certificate))
    assert classify(sent(authority, server.url)) is expected
    assert server.hits == []


def test_an_unknown_certificate_authority_is_not_trusted(tmp_path: Path, serve: Callable[..., RawServer]) -> None:
    server = serve(good)
    assert classify(sent(Authority(tmp_path), server.url)) is OutcomeCode.TLS_UNTRUSTED


def test_a_plain_http_server_behind_https_fails_the_handshake(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), plain=True, reads=False)
    assert classify(sent(authority, server.url, TIMEOUT_S)) is OutcomeCode.TLS_FAILED


def test_a_handshake_that_hangs_times_out(authority: Authority, serve: Callable[..., RawServer]) -> None:
    server = serve(hold, plain=True, reads=False)
    assert classify(sent(authority, server.url, TIMEOUT_S)) is OutcomeCode.TIMEOUT


def test_a_closed_port_and_an_unknown_name_have_their_codes(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert classify(sent(authority, f"https://127.0.0.1:{port}/")) is OutcomeCode.CONNECT_FAILED
    assert classify(sent(authority, "https://no-such-host.invalid/")) is OutcomeCode.DNS_FAILED


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"],
)
def test_no_packet_goes_to_an_address_that_is_not_public(
    authority: Authority, serve: Callable[..., RawServer], host: str
) -> None:
    server = serve(good)
    result = sent(authority, f"https://{host}:{server.port}/", policy=AddressPolicy())
    assert classify(result) is OutcomeCode.TARGET_NOT_ALLOWED
    assert server.connections == 0


@pytest.mark.parametrize(
    ("allowed", "outcome", "connections"),
    [("127.0.0.0/8", OutcomeCode.SUCCEEDED, 1), ("::1/128", OutcomeCode.CONNECT_FAILED, 0)],
)
def test_only_the_allowed_addresses_of_a_name_are_connected_to(
    authority: Authority, serve: Callable[..., RawServer], allowed: str, outcome: OutcomeCode, connections: int
) -> None:
    """libcurl resolves localhost to 127.0.0.1 and ::1; the receiver listens at the first of them."""
    server = serve(good)
    result = sent(authority, server.url, policy=AddressPolicy([ip_network(allowed)]))
    assert classify(result) is outcome
    assert server.connections == connections


def test_a_refused_address_does_not_hide_the_timeout_of_an_allowed_one(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(hold, plain=True, reads=False)
    result = sent(authority, server.url, TIMEOUT_S, AddressPolicy([ip_network("127.0.0.0/8")]))
    assert classify(result) is OutcomeCode.TIMEOUT


def test_proxies_of_the_environment_are_ignored(
    authority: Authority, serve: Callable[..., RawServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, proxy = serve(good), serve(hold, plain=True, reads=False)
    for name in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert classify(sent(authority, server.url)) is OutcomeCode.SUCCEEDED
    assert proxy.connections == 0


def test_connections_are_kept_and_descriptors_do_not_leak(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(good)

    async def many(sender: CurlSender) -> tuple[int, int]:
        await asyncio.gather(*(sender.send(request(server.url)) for _ in range(8)))
        before = open_descriptors()
        for _ in range(40):
            results = await asyncio.gather(*(sender.send(request(server.url)) for _ in range(8)))
            assert all(classify(result) is OutcomeCode.SUCCEEDED for result in results)
        return before, open_descriptors()

    before, after = run(authority, many)
    assert after <= before + 4
    assert server.connections <= 12
    assert len(server.hits) == 328


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: applicati"])
def test_a_response_whose_headers_are_cut_off_is_no_success(
    authority: Authority, serve: Callable[..., RawServer], head: bytes
) -> None:
    def cut(connection: socket.socket, _: Hit | None) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(head)
        connection.unwrap()  # TLS ends correctly, HTTP does not

    assert classify(sent(authority, serve(cut).url)) is OutcomeCode.CONNECTION_LOST


def test_libcurl_never_sends_a_request_twice(authority: Authority, serve: Callable[..., RawServer]) -> None:
    """A kept connection breaks after the receiver has read the request: only the engine may decide to send it again."""
    answered: list[Hit] = []

    def once_then_reset(connection: socket.socket, hit: Hit | None) -> None:
        assert hit is not None
        answered.append(hit)
        if len(answered) == 1:
            good(connection, hit)
        else:
            reset(connection)

    server = serve(once_then_reset)

    async def twice(sender: CurlSender) -> list[SendResult]:
        return [await sender.send(request(server.url)) for _ in range(2)]

    outcomes = [classify(result) for result in run(authority, twice)]
    assert outcomes == [OutcomeCode.SUCCEEDED, OutcomeCode.CONNECTION_LOST]
    assert len(server.hits) == 2


def test_hundreds_of_hanging_endpoints_do_not_delay_one_that_answers(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    dead, healthy = serve(hold, plain=True, reads=False), serve(good)

    async def beside(sender: CurlSender) -> tuple[float, int]:
        hanging = [asyncio.create_task(sender.send(request(dead.url, 30))) for _ in range(500)]
        await asyncio.to_thread(dead.wait_for_connections, 500)
        began_s = time.monotonic()
        for _ in range(20):
            assert classify(await sender.send(request(healthy.url))) is OutcomeCode.SUCCEEDED
        elapsed_s = time.monotonic() - began_s
        done = sum(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return elapsed_s, done

    elapsed_s, done = run(authority, beside)
    assert done == 0
    assert elapsed_s < 15  # half of what a sender would take that waits for the hanging endpoints


def test_hanging_endpoints_do_not_evict_the_idle_connections_of_others(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    dead, healthy = serve(hold, plain=True, reads=False), serve(good)

    async def beside() -> None:
        sender = CurlSender(LOCAL, authority.ca_file, max_idle_connections=4)
        await sender.start()
        hanging = [asyncio.create_task(sender.send(request(dead.url, 30))) for _ in range(8)]
        await asyncio.to_thread(dead.wait_for_connections, 8)
        for _ in range(4):
            assert classify(await sender.send(request(healthy.url))) is OutcomeCode.SUCCEEDED
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        await sender.stop()

    asyncio.run(beside())
    assert healthy.connections == 1


def test_a_canceled_send_cancels_the_transfer(authority: Authority, serve: Callable[..., RawServer]) -> None:
    gone = asyncio.Event()

    async def cancel(sender: CurlSender) -> None:
        loop = asyncio.get_running_loop()

        def script(connection: socket.socket, _: Hit | None) -> None:
            loop.call_soon_threadsafe(arrived.set)
            hold(connection, None)
            loop.call_soon_threadsafe(gone.set)

        arrived = asyncio.Event()
        task = asyncio.create_task(sender.send(request(serve(script).url, 30)))
        await arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(gone.wait(), 10)

    run(authority, cancel)
