"""Producers: processes that record purchases; each request is journaled before it is sent and repeated until it is clear."""

import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from chaos.client import Answer, Client, Refusal, Unknown
from chaos.journal import Journal
from chaos.workload import Operation, operations

_THREADS = 3
_GATE_S = 0.01
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Assignment:
    """The work of one process: every operation whose number modulo `processes` is `index`."""

    folder: Path
    addresses: tuple[str, ...]
    api_key: str
    seed: str
    purchases: int
    customer_ids: tuple[str, ...]
    index: int
    processes: int


class Producers:
    """The handle that the run has on the processes: it allows operations step by step and waits for the end."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        context = multiprocessing.get_context("spawn")
        self._gate: Synchronized[int] = context.Value("q", 0)
        self._processes = [context.Process(target=_produce, args=(each, self._gate)) for each in assignments]
        for process in self._processes:
            process.start()

    def allow(self, operation_count: int) -> None:
        """Allow the operations with a number below this one."""
        self._gate.value = operation_count

    @property
    def done(self) -> bool:
        """Whether all processes have ended. Raises `RuntimeError` if one failed."""
        codes = [process.exitcode for process in self._processes]
        if any(code for code in codes):
            raise RuntimeError(f"a producer failed: exit codes {codes}")
        return all(code == 0 for code in codes)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join(10)


def _produce(assignment: Assignment, gate: "Synchronized[int]") -> None:
    journal = Journal(assignment.folder / f"producer-{assignment.index}.jsonl", durable=True)
    mine = [
        each
        for each in operations(assignment.seed, assignment.purchases, assignment.customer_ids)
        if each.number % assignment.processes == assignment.index
    ]
    threads = [_ProducerThread(assignment, n, mine[n::_THREADS], journal, gate) for n in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broken = [thread for thread in threads if not thread.finished]
    raise SystemExit(1 if broken else 0)


class _ProducerThread(threading.Thread):
    def __init__(
        self,
        assignment: Assignment,
        number: int,
        work: Sequence[Operation],
        journal: Journal,
        gate: "Synchronized[int]",
    ) -> None:
        super().__init__()
        self._rng = random.Random(f"{assignment.seed}/{assignment.index}/{number}")
        self._client = Client(assignment.addresses, assignment.api_key, self._rng)
        self._work = work
        self._journal = journal
        self._gate = gate
        self.finished = False

    def run(self) -> None:
        """Run every operation in order, each until it is acknowledged."""
        for operation in self._work:
            while operation.number >= self._gate.value:
                time.sleep(_GATE_S)
            self._insist(operation)
        self.finished = True

    def _insist(self, operation: Operation) -> None:
        lines = [[p.ref, p.customer_id, p.amount, p.refused] for p in operation.purchases]
        self._journal.write("intent", op=operation.number, purchases=lines)
        pause_s = _FIRST_PAUSE_S
        while not self._try(operation):
            time.sleep(pause_s * self._rng.uniform(0.5, 1))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _try(self, operation: Operation) -> bool:
        self._journal.write("attempt", op=operation.number)
        try:
            answer = self._send(operation)
        except Unknown as unknown:
            self._journal.write("unknown", op=operation.number, why=str(unknown))
            return False
        except Refusal as refusal:
            self._journal.write("refusal", op=operation.number, why=str(refusal))
            return True
        self._journal.write("ok", op=operation.number, replayed=answer.replayed, results=_results(operation, answer))
        return True

    def _send(self, operation: Operation) -> Answer:
        bodies: list[dict[str, object]] = [purchase.body() for purchase in operation.purchases]
        if operation.batch:
            return self._client.call("POST", "/v1/transactions/batch", {"transactions": bodies}, operation.key)
        return self._client.call("POST", "/v1/transactions", bodies[0], operation.key)


def _results(operation: Operation, answer: Answer) -> list[list[Any]]:
    """For each purchase: its ref, the status of the answer, and the id of the transaction, if it was recorded."""
    if not operation.batch:
        return [[operation.purchases[0].ref, answer.status, answer.body["id"]]]
    return [
        [purchase.ref, result["status"], result.get("transaction", {}).get("id")]
        for purchase, result in zip(operation.purchases, answer.body["data"], strict=True)
    ]
