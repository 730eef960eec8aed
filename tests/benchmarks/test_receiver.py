"""The receiver of the benchmarks."""

import array
import fcntl
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.libcurl_loop import requests_per_second
from bench.receiver import Receiver
from loyalpro.cli.demo.certificates import issue
from loyalpro.kernel.clock import SystemClock

_HITS = 20_000
_FULL_BYTES = 200_000
"""More than the pipe between the two processes holds at once."""


def test_a_long_answer_arrives_completely_although_it_is_read_late(tmp_path: Path) -> None:
    files = issue(tmp_path, SystemClock())
    receiver = Receiver(str(files.chain_file), str(files.key_file))
    body = b'{"id":"evt_01kat6b8z00000000000000000"}'
    requests_per_second(receiver.url, str(files.ca_file), [body], _HITS)
    receiver._pipe.send("hits")
    while _waiting_bytes(receiver._pipe.fileno()) < _FULL_BYTES:
        pass
    reader = ThreadPoolExecutor(1)
    try:
        hits = reader.submit(receiver._pipe.recv).result(timeout=60)
    finally:
        reader.shutdown(wait=False)
    assert [hit.event_id for hit in hits] == ["evt_01kat6b8z00000000000000000"] * _HITS
    receiver.stop()


def _waiting_bytes(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
