"""Deliveries to host names that have to be looked up, beside look-ups that no DNS server answers."""

import time
from collections.abc import Iterable

from bench.delays import Delays
from bench.load import subscribe, wait_for
from bench.receiver import Receiver
from bench.stage import DOMAIN, Stage
from loyalpro.cli.api_client import ApiClient
from support.dns_server import SILENT as NO_ANSWER
from support.dns_server import DnsServer, at

SILENT = 200
_HEALTHY = 20
_FORGOTTEN_S = 6.0
"""Addresses whose DNS server allows no time are kept for five seconds."""


def delays_beside_silent_names(stage: Stage, store: str) -> Delays:
    """From the commit to the receipt, at endpoints whose names are looked up while those of `SILENT` others hang."""
    silent = [f"s{n}.{DOMAIN}" for n in range(SILENT)]
    healthy = [f"h{n}.{DOMAIN}" for n in range(_HEALTHY)]
    with DnsServer({name: at("127.0.0.1", ttl_s=0) for name in [*silent, *healthy]}) as dns:
        server = stage.serve(stage.database(store), dns_servers=dns.address)
        receiver, other = stage.receiver(), stage.receiver(remembers=False)
        stage.report(f"{store}: {SILENT} silent names")
        client = server.client()
        ids = {name: _add(client, name, receiver if name in healthy else other) for name in [*silent, *healthy]}
        time.sleep(_FORGOTTEN_S)
        dns.zones |= dict.fromkeys(silent, NO_ANSWER)
        before = dns.questions
        _send(client, (ids[name] for name in silent))
        while any(dns.questions[name] == before[name] for name in silent):
            time.sleep(0.01)
        _send(client, (ids[name] for name in healthy))
        wait_for(receiver, _HEALTHY)
        server.kill()
    return Delays.of(receiver.hits())


def _add(client: ApiClient, name: str, receiver: Receiver) -> str:
    return subscribe(client, receiver.url.replace("localhost", name), ["customer.deleted"])


def _send(client: ApiClient, endpoint_ids: Iterable[str]) -> None:
    for endpoint_id in endpoint_ids:
        client.call("POST", f"/v1/webhook_endpoints/{endpoint_id}/test", {})
