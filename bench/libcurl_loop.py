"""The baseline: libcurl's multi interface with 64 requests in flight. No database, no signature, no events."""

import time
from collections.abc import Sequence

import pycurl

IN_FLIGHT = 64


def requests_per_second(url: str, ca_file: str, bodies: Sequence[bytes], total: int) -> float:
    """Send `total` requests as fast as one thread can; the rate. Raises RuntimeError when one fails."""
    multi = pycurl.CurlMulti()
    multi.setopt(pycurl.M_MAXCONNECTS, IN_FLIGHT)
    free = [_handle(url, ca_file) for _ in range(IN_FLIGHT)]
    started = done = 0
    began_s = time.perf_counter()
    while done < total:
        while free and started < total:
            handle = free.pop()
            handle.setopt(pycurl.POSTFIELDS, bodies[started % len(bodies)])
            multi.add_handle(handle)
            started += 1
        while multi.perform()[0] == pycurl.E_CALL_MULTI_PERFORM:
            pass
        _, finished, failed = multi.info_read(IN_FLIGHT)
        if failed:
            raise RuntimeError(f"the bare loop failed: {failed[0][2]}")
        for handle in finished:
            if handle.getinfo(pycurl.RESPONSE_CODE) != 200:
                raise RuntimeError("the receiver did not answer 200")
            multi.remove_handle(handle)
            free.append(handle)
        done += len(finished)
        if not finished:
            multi.select(1.0)
    return total / (time.perf_counter() - began_s)


def _handle(url: str, ca_file: str) -> pycurl.Curl:
    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.CAINFO, ca_file)
    handle.setopt(pycurl.PROXY, "")
    handle.setopt(pycurl.HTTPHEADER, ["Content-Type: application/json", "Expect:"])
    handle.setopt(pycurl.WRITEFUNCTION, len)
    handle.setopt(pycurl.TIMEOUT_MS, 30_000)
    return handle
