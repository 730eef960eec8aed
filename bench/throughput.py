"""Deliveries per second: end to end from purchases, and from a backlog without new purchases."""

import json
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.libcurl_loop import requests_per_second
from bench.load import EVENTS_PER_PURCHASE, buy, customers, subscribe, wait_until_settled
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import Server, cpu_s
from bench.stage import Stage
from loyalpro.cli.api_client import ApiClient


@dataclass(frozen=True)
class Round:
    """The result of one round, and the rate of the bare loop to the same receiver just before it."""

    deliveries: int
    per_s: float
    cpu_us_each: float
    bare_per_s: float
    ingest_per_s: float = 0
    parts_us: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The rate divided by that of the bare loop."""
        return self.per_s / self.bare_per_s


def throughput(stage: Stage, scale: Scale) -> Finding:
    """Both, on each database."""
    goals, details = [], []
    for store in stage.stores:
        receiver = stage.receiver()
        rounds = _end_to_end(stage, store, receiver, scale)
        drain = _drain(stage, store, receiver, scale.backlog)
        ratio = statistics.median(each.ratio for each in rounds)
        measured = f"{_middle(rounds).per_s:,.0f}/s, {ratio:.2f} of the bare loop"
        goals.append(Goal(f"throughput, {store}", "at least 0.50 of a bare libcurl loop", measured, ratio >= 0.5))
        details.append(_table(store, rounds, drain))
    svix = Goal("throughput beside Svix", "more than 5 times as much", "not measured: there is no Svix here", None)
    return Finding([*goals, svix], _INTRO + "\n".join(details))


_INTRO = """"End to end" starts when the first batch of purchases is sent over HTTP and ends when the last webhook has been
answered and its outcome is committed. "Drain" is delivery alone: the server starts on a database with a backlog. Each
round follows one of the bare loop, to the same receiver with the same bodies.

The bare loop and the receiver keep both cores busy with nothing but HTTPS. A delivery is more: half of a purchase with its ledger
entry and lot, the event, the pending delivery, a lease, two signatures, the attempt and its outcome, each durable before the next
step. The profile shows the cost of each part, and the CPU time that half of the bare loop's rate would leave for all of them.

"""


def _end_to_end(stage: Stage, store: str, receiver: Receiver, scale: Scale) -> list[Round]:
    stage.report(f"{store}: end to end")
    server = stage.serve(stage.database(store))
    client = server.client()
    buyers = customers(client, 50)
    buy(client, buyers, 50)
    bodies = _bodies(client)
    rounds = []
    for _ in range(scale.rounds):
        bare_per_s = requests_per_second(receiver.url, stage.ca_file, bodies, scale.purchases * EVENTS_PER_PURCHASE)
        rounds.append(_round(_Participants(stage, store, server, receiver), buyers, scale.purchases, bare_per_s))
    server.kill()
    return rounds


@dataclass(frozen=True)
class _Participants:
    """The processes that take part in a round."""

    stage: Stage
    store: str
    server: Server
    receiver: Receiver

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds that each of them has used so far."""
        others = {"receiver": cpu_s(self.receiver.pid), "client": time.process_time()}
        database_s = self.stage.database_cpu_s() if self.store == "postgres" else None
        return self.server.cpu_parts() | ({} if database_s is None else {"PostgreSQL": database_s}) | others


def _round(participants: _Participants, buyers: list[str], purchases: int, bare_per_s: float) -> Round:
    server, receiver, client = participants.server, participants.receiver, participants.server.client()
    endpoint_id = subscribe(client, receiver.url)
    receiver.reset()
    expected = purchases * EVENTS_PER_PURCHASE
    before_s, began_s = participants.cpu_s(), time.perf_counter()
    buy(client, buyers, purchases)
    ingested_s = time.perf_counter() - began_s
    wait_until_settled(client, endpoint_id, receiver, expected)
    elapsed_s, after_s = time.perf_counter() - began_s, participants.cpu_s()
    parts_us = {part: (after_s[part] - before_s[part]) / expected * 1e6 for part in after_s}
    client.call("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")
    server_us = sum(parts_us[part] for part in server.cpu_parts())
    return Round(receiver.count(), expected / elapsed_s, server_us, bare_per_s, expected / ingested_s, parts_us)


def _drain(stage: Stage, store: str, receiver: Receiver, backlog: int) -> Round:
    """From the first sample of the server to the last outcome; deliveries before that sample do not count."""
    stage.report(f"{store}: drain")
    url = stage.database(store)
    with stage.past(url) as past:
        [endpoint_id] = past.endpoints(past.account_id, [receiver.url])
        past.events(past.account_id, backlog)
    receiver.reset()
    server = stage.serve(url)
    before, used_s, began_s = receiver.count(), server.cpu_s(), time.perf_counter()
    client = server.client()
    wait_until_settled(client, endpoint_id, receiver, backlog)
    elapsed_s, used_s = time.perf_counter() - began_s, server.cpu_s() - used_s
    bodies = _bodies(client)
    server.kill()
    bare_per_s = requests_per_second(receiver.url, stage.ca_file, bodies, backlog)
    sent = backlog - before
    return Round(sent, sent / elapsed_s, used_s / sent * 1e6, bare_per_s)


def _bodies(client: ApiClient) -> list[bytes]:
    """Bodies of real events, for the bare loop."""
    events = client.call("GET", "/v1/events?limit=100")["data"]
    return [json.dumps(each, separators=(",", ":")).encode() for each in events]


def _middle(rounds: list[Round]) -> Round:
    return sorted(rounds, key=lambda each: each.per_s)[len(rounds) // 2]


def _table(store: str, rounds: list[Round], drain: Round) -> str:
    middle = _middle(rounds)
    bare_per_s = statistics.median(each.bare_per_s for each in rounds)
    return f"""| {store} | measured |
|---|---|
| bare libcurl loop, requests/s (median of {len(rounds)}) | {bare_per_s:,.0f} |
| end to end, deliveries/s (median of {len(rounds)}, {middle.deliveries:,} each) | {middle.per_s:,.0f} |
| end to end / bare loop, round by round | {_ratios(rounds)} |
| ingestion while delivering, events/s | {middle.ingest_per_s:,.0f} |
| server CPU for one delivery, ingestion included | {middle.cpu_us_each:,.0f} us |
| drain, deliveries/s ({drain.deliveries:,}) | {drain.per_s:,.0f} |
| drain / bare loop | {drain.ratio:.2f} |
| drain, server CPU for one delivery | {drain.cpu_us_each:,.0f} us |

{_profile(store, middle, bare_per_s)}
"""


def _profile(store: str, middle: Round, bare_per_s: float) -> str:
    """The CPU time of a delivery by process, and the CPU time that half of the bare loop's rate would leave for it."""
    cores = os.cpu_count() or 1
    total_us = sum(middle.parts_us.values())
    rows = "\n".join(f"| {part} | {used_us:,.0f} us |" for part, used_us in middle.parts_us.items())
    return f"""| {store}, CPU for one delivery, end to end | |
|---|---|
{rows}
| total | {total_us:,.0f} us |
| {cores} cores without idle time would deliver | {cores / total_us * 1e6:,.0f}/s, {cores / total_us * 1e6 / bare_per_s:.2f} of the bare loop |
| the cores were busy for | {middle.per_s * total_us / cores / 1e4:.0f} % of the time |
| half of the bare loop's rate leaves for all of it | {cores / bare_per_s * 2e6:,.0f} us |
"""


def _ratios(rounds: list[Round]) -> str:
    return ", ".join(f"{each.ratio:.2f}" for each in rounds)
