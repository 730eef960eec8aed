"""Reads the journals of a run into plain values."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import journal
from receivers.behavior import Behavior

NEVER = float("inf")


@dataclass(slots=True)
class Purchase:
    """One purchase as its producer saw it. It may have been committed at any time between `first_ms` and `last_ms`."""

    ref: str
    customer_id: str
    amount: int
    must_be_refused: bool
    first_ms: float
    last_ms: float = NEVER
    status: int | None = None
    transaction_id: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One request at the receiver."""

    at_ms: float
    endpoint_id: str
    delivery_id: str
    event_id: str
    webhook_id: str
    attempt: int
    sha256: str
    signed: bool
    behavior: Behavior


@dataclass(slots=True)
class Subscription:
    """An endpoint. `added` and `removed`: the first and the last time at which the change may have been committed."""

    endpoint_id: str
    name: str
    types: frozenset[str]
    ordered: bool
    added: tuple[float, float]
    removed: tuple[float, float] = (NEVER, NEVER)

    def wants(self, event_type: str) -> bool:
        """Whether it is subscribed to this type."""
        return "*" in self.types or event_type in self.types


@dataclass(slots=True)
class Fault:
    """A fault from its begin to its repair. `took_effect`: whether the product was affected."""

    name: str
    from_ms: float
    to_ms: float = NEVER
    took_effect: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """A process that ended by itself."""

    product: str
    exit_code: int
    was_ready: bool
    began_ms: float
    at_ms: float


@dataclass(slots=True)
class Evidence:
    """The contents of all journals."""

    purchases: dict[str, Purchase] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    enrolled: dict[str, tuple[float, float]] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    ends: list[End] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    resent: Counter[str] = field(default_factory=Counter)
    behind_nginx: bool = False
    reloads: int = 0


def read(folder: Path) -> Evidence:
    """Read the journals in the folder of a run."""
    evidence = Evidence()
    for line in journal.read(folder / "run.jsonl"):
        _read_run(evidence, line)
    for path in sorted(folder.glob("producer-*.jsonl")):
        intents: dict[int, list[str]] = {}
        for line in journal.read(path):
            _read_producer(evidence, line, intents)
    evidence.hits = [_hit(line) for line in journal.read(folder / "hits.jsonl")]
    return evidence


def _read_run(evidence: Evidence, line: dict[str, Any]) -> None:
    began = line.get("began", line["at"])
    evidence.reloads += line["kind"] == "reloaded"
    match line["kind"]:
        case "plan":
            evidence.asked, evidence.retries = line["asked"], line["retries"]
            evidence.behind_nginx = line.get("nginx", False)
        case "enrolled":
            evidence.enrolled[line["customer"]] = (began, line["at"])
        case "subscribed":
            evidence.subscriptions[line["endpoint"]] = Subscription(
                line["endpoint"],
                line["name"],
                frozenset(line["types"]),
                line["ordering"] == "customer",
                (began, line["at"]),
            )
        case "unsubscribed":
            evidence.subscriptions[line["endpoint"]].removed = (began, line["at"])
        case "fault":
            evidence.faults.append(Fault(line["name"], began))
        case "repaired":
            open_ = next(f for f in reversed(evidence.faults) if f.name == line["name"] and f.to_ms == NEVER)
            open_.to_ms, open_.took_effect = line["at"], line.get("effect", True)
        case "resent":
            evidence.resent[line["delivery"]] += 1
        case "missed":
            evidence.missed.append(line["why"])
        case "ended":
            evidence.ends.append(End(line["product"], line["exit_code"], line["was_ready"], began, line["at"]))


def _read_producer(evidence: Evidence, line: dict[str, Any], intents: dict[int, list[str]]) -> None:
    evidence.requests[line["kind"]] += 1
    match line["kind"]:
        case "intent":
            intents[line["op"]] = [ref for ref, *_ in line["purchases"]]
            for ref, customer_id, amount, must_be_refused in line["purchases"]:
                evidence.purchases[ref] = Purchase(ref, customer_id, amount, must_be_refused, line["at"])
        case "refusal":
            evidence.refusals.append(line["why"])
        case "ok":
            evidence.requests["recovered"] += bool(line["replayed"])
            for ref, status, transaction_id in line["results"]:
                purchase = evidence.purchases[ref]
                purchase.last_ms, purchase.status, purchase.transaction_id = line["at"], status, transaction_id


def _hit(line: dict[str, Any]) -> Hit:
    return Hit(
        line["at"],
        line["endpoint"],
        line["delivery"],
        line["event"],
        line["webhook"],
        line["attempt"],
        line["sha256"],
        line["signed"],
        Behavior(line["behavior"]),
    )
