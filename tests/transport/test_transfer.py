"""A single libcurl handle, without the sender process around it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from socket import socket

import pycurl

from loyalpro.delivery.attempt import OutgoingRequest
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.certificate_names import CertificateNames
from loyalpro.transport.received_bytes import UsedBytes
from loyalpro.transport.transfer import CertificateBundle, Transfer
from support.receivers import Authority, Hit, RawServer, hold

LOCAL = AddressPolicy([ip_network("127.0.0.0/8")])
MS_PER_S = 1_000


@contextmanager
def driven(transfer: Transfer) -> Iterator[pycurl.CurlMulti]:
    multi = pycurl.CurlMulti()
    multi.add_handle(transfer.handle)
    yield multi
    multi.remove_handle(transfer.handle)


def test_a_handshake_may_take_the_whole_time_of_the_attempt(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """While the handshake hangs, the only timer of libcurl is the end of the attempt."""
    greeted = threading.Event()

    def silent(connection: socket, _: Hit | None) -> None:
        connection.recv(1)
        greeted.set()
        hold(connection, None)

    server = serve(silent, plain=True, reads=False)
    certificates = CertificateBundle(authority.ca_file)
    transfer = Transfer(LOCAL, certificates.path, CertificateNames(), UsedBytes())
    transfer.prepare(OutgoingRequest(f"https://127.0.0.1:{server.port}/hook", (), b"{}", timeout_s=3_600))
    with driven(transfer) as multi:
        while not greeted.is_set():
            multi.perform()
            multi.select(0.1)
        multi.perform()
        assert multi.timeout() > 1_800 * MS_PER_S
