"""Bodies at their limit, of every shape: other requests are served meanwhile, and memory stays a small multiple of the body."""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loyalpro.web.strict_route import MAX_BATCH_BODY_BYTES, MAX_BODY_BYTES
from support.databases import Databases
from support.server import Answer, Server

BATCH = "/v1/transactions/batch"
MOST_MEMORY = 16
"""Times the size of the body. The shortest objects of JSON take two bytes, and 64 in Python."""


@pytest.fixture(autouse=True, scope="module")
def _few_objects_to_collect() -> Iterator[None]:
    """As in a server: a full collection does not look at the objects of the loaded modules."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        running.post("/v1/customers", {"external_id": "regular"})
        running.post(BATCH, purchases(1, ""))
        yield running


def purchases(count: int, more: str) -> bytes:
    """A batch of purchases with further fields."""
    one = f'{{"customer_external_id":"regular","amount":100,"currency":"EUR"{more}}}'
    return f'{{"transactions":[{",".join([one] * count)}]}}'.encode()


def filled(head: bytes, unit: bytes, tail: bytes, size: int) -> bytes:
    """A body of about `size` bytes: `unit` again and again between `head` and `tail`."""
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def keys(count: int) -> bytes:
    return ",".join(f'"k{number}":1' for number in range(count)).encode()


def lines(count: int, line: str) -> str:
    return f',"items":[{",".join([line] * count)}]'


SHAPES: dict[str, Callable[[int], bytes]] = {
    "many keys behind one member": lambda size: b'{"transactions":[1],' + keys(size // 12) + b"}",
    "many keys before": lambda size: b"{" + keys(size // 12) + b',"transactions":[1]}',
    "one member of many keys": lambda size: b'{"transactions":[{' + keys(size // 12) + b"}]}",
    "members of many keys": lambda size: filled(b'{"transactions":[', b"{" + keys(20_000) + b"},", b"1]}", size),
    "many members": lambda size: filled(b'{"transactions":[', b"1,", b"1]}", size),
    "deep": lambda size: b'{"transactions":' + b"[" * (size // 2 - 10) + b"]" * (size // 2 - 10) + b"}",
    "many deep members": lambda size: filled(b'{"transactions":[', b"[" * 70 + b"]" * 70 + b",", b"1]}", size),
    "a long text": lambda size: filled(b'{"transactions":["', b"x", b'"]}', size),
    "a long text of escapes": lambda size: filled(b'{"transactions":["', b"\\u00e9", b'"]}', size),
    "long texts of pairs": lambda size: filled(
        b'{"transactions":[', b'"' + b"\\ud83d\\ude00" * 16_000 + b'",', b"1]}", size
    ),
    "wide characters": lambda size: filled(b'{"transactions":[', '"\U0001f600,"'.encode() + b",", b"1]}", size),
    "numbers": lambda size: filled(b'{"transactions":[[', b"1,", b"1]]}", size),
    "fractions": lambda size: filled(b'{"transactions":[[', b"1e-7,", b"1]]}", size),
    "members of fractions": lambda size: filled(
        b'{"transactions":[', b'{"metadata":{"a":[' + b"1.2345e-7," * 20_000 + b"1]}},", b"1]}", size
    ),
    "a huge integer": lambda size: filled(b'{"transactions":[', b"7", b"]}", size),
    "huge integers": lambda size: filled(b'{"transactions":[{"amount":[', b"7" * 5_000 + b",", b"1]}]}", size),
    "arrays of arrays": lambda size: filled(b'{"transactions":[[', b"[],", b"1]]}", size),
    "members of arrays": lambda size: filled(
        b'{"transactions":[', b'{"metadata":{"a":[' + b"[],              " * 15_000 + b"1]}},", b"1]}", size
    ),
    "members of objects": lambda size: filled(
        b'{"transactions":[', b"[" + b"{},              " * 15_000 + b"1],", b"1]}", size
    ),
    "members with pairs": lambda size: filled(
        b'{"transactions":[', b'["\\ud83d\\ude00",' + b"12345678," * 25_000 + b"1],", b"1]}", size
    ),
    "a key twice": lambda size: filled(b'{"transactions":[{', b'"a":1,', b'"a":1}]}', size),
    "blanks": lambda size: filled(b'{"transactions":[', b" \n", b"1]}", size),
    "not JSON at its end": lambda size: filled(b'{"transactions":["', b"x", b"", size),
    "wrong lines": lambda size: filled(
        b'{"transactions":[', b'{"items":[' + b'{"sku":1, "name":2, "category":3},' * 900 + b"1]},", b"1]}", size
    ),
    "unknown fields in lines": lambda size: filled(
        b'{"transactions":[', b'{"items":[' + b'{"skuu":"a long text of a line"},' * 900 + b"1]},", b"1]}", size
    ),
    "purchases with lines": lambda size: purchases(size // 8_600, lines(300, '{"quantity":1,"amount":1}')),
    "purchases with metadata": lambda size: purchases(size // 8_100, ',"metadata":{"a":[' + "1.5," * 1_990 + "1]}"),
    "refused purchases": lambda size: purchases(size // 9_000, lines(300, '{"quantity":1,"amount":0.5}')),
}


class Heartbeat:
    """Measures, on the event loop of a server, how much processor time the process spends between two turns of the loop.

    It is not the time of a clock, so other processes of the machine have little influence.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = False
        self.longest_s = 0.0

    def __enter__(self) -> "Heartbeat":
        self._ended = asyncio.run_coroutine_threadsafe(self._beat(), self._server.loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._ended.result(60)

    async def _beat(self) -> None:
        last_s = time.process_time()
        while not self._stop:
            await asyncio.sleep(0.001)
            now_s = time.process_time()
            self.longest_s = max(self.longest_s, now_s - last_s)
            last_s = now_s


def plain_parse_s() -> float:
    """The processor time of the standard parser for a body of 8 MiB: the yardstick of this machine."""
    body = filled(b"[", b"1,", b"1]", MAX_BATCH_BODY_BYTES)
    start_s = time.process_time()
    json.loads(body)
    return time.process_time() - start_s


def longest_turn_s(server: Server, call: Callable[[], object]) -> float:
    """The longest turn of the loop during a call, in processor time.

    The smaller one of two calls, where the first has a longer turn than the yardstick: what a body causes, it causes each time,
    while a collection of garbage that the test process has gathered comes once.
    """
    longest_s = 0.0
    for _ in range(2):
        with Heartbeat(server) as heartbeat:
            call()
        longest_s = min(longest_s or heartbeat.longest_s, heartbeat.longest_s)
        if longest_s < plain_parse_s():
            break
    return longest_s


def peak_bytes(work: Callable[[], object]) -> int:
    """How far the memory of the process grows above its present size while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    work()
    return memory("VmHWM") - before


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_at_its_limit_blocks_neither_the_loop_nor_the_memory(server: Server, shape: str) -> None:
    body = SHAPES[shape](MAX_BATCH_BODY_BYTES)
    assert 0.9 * MAX_BATCH_BODY_BYTES < len(body) <= MAX_BATCH_BODY_BYTES
    answers: list[Answer] = []
    sizes: list[int] = []

    def call() -> None:
        sizes.append(peak_bytes(lambda: answers.append(server.call("POST", BATCH, body))))

    longest_s, grown = longest_turn_s(server, call), sizes[0]
    print(shape, answers[0].status, f"{longest_s * 1_000:.0f} ms, {grown / len(body):.1f} times")  # noqa: T201
    assert answers[0].status < 500, answers[0].raw[:500]
    assert longest_s < plain_parse_s()
    assert grown < MOST_MEMORY * len(body)


ONE_BY_ONE: dict[str, Callable[[int], bytes]] = {
    "many keys": lambda size: b"{" + keys(size // 11) + b"}",
    "wrong headers": lambda size: b'{"url":"https://a.example","events":["*"],"headers":{' + keys(size // 11) + b"}}",
    "wrong types": lambda size: filled(b'{"since":1,"status":[', b'"lost",', b'1],"types":[1]}', size // 2),
    "fractions": lambda size: filled(b'{"metadata":{"a":[', b"1e-7,", b"1]}}", size),
    "pairs and numbers": lambda size: filled(b'{"metadata":{"a":["\\ud83d\\ude00",', b"123,", b"1]}}", size),
    "arrays": lambda size: filled(b'{"metadata":{"a":[', b"[],  ", b"1]}}", size),
    "wrong lines": lambda size: b'{"amount":1,"currency":"EUR"' + lines(1_000, '{"sku":1,"name":2}').encode() + b"}",
    "a text": lambda size: filled(b'{"name":"', b"\\u00e9", b'"}', size),
}


@pytest.mark.parametrize("shape", ONE_BY_ONE)
@pytest.mark.parametrize(
    "path",
    ["/v1/customers", "/v1/transactions", "/v1/webhook_endpoints", f"/v1/webhook_endpoints/we_{'0' * 26}/replay"],
)
def test_any_other_body_at_its_limit_blocks_the_loop_shortly(server: Server, path: str, shape: str) -> None:
    body = ONE_BY_ONE[shape](MAX_BODY_BYTES)
    assert len(body) <= MAX_BODY_BYTES
    answers: list[Answer] = []
    longest_s = longest_turn_s(server, lambda: answers.append(server.call("POST", path, body)))
    print(shape, path, answers[0].status, f"{longest_s * 1_000:.0f} ms")  # noqa: T201
    assert 400 <= answers[0].status < 500
    assert len(answers[0].raw) < 5_000
    assert longest_s < plain_parse_s()


def test_three_batches_at_once_are_recorded_while_others_are_served(database_url: str) -> None:
    body = purchases(1_000, lines(100, '{"quantity":0.5,"amount":-3,"name":"a"}'))
    with Server(database_url) as server, ThreadPoolExecutor(4) as threads:
        server.post("/v1/customers", {"external_id": "regular"})
        with Heartbeat(server) as heartbeat:
            batches = [threads.submit(server.call, "POST", BATCH, body) for _ in range(3)]
            statuses = [server.call("GET", "/v1/customers").status for _ in range(20)]
            answers = [each.result() for each in batches]
    assert {answer.status for answer in answers} == {*statuses} == {200}
    assert {each["status"] for answer in answers for each in answer.json["data"]} == {201}
    assert heartbeat.longest_s < 5 * plain_parse_s()  # the clients of the test compete for the interpreter as well
