"""Mistakes that somebody could make, one in each copy of the product. The checker has to see every one of them."""

from simulation.mutation import Mutant, Patch

_DELIVERY = "loyalpro.delivery"
_TABLES = "loyalpro.storage.tables"
_UNIT_OF_WORK = "loyalpro.storage.unit_of_work"
_FENCED_BY_DELIVERY = (
    Patch(
        f"{_TABLES}.settlements",
        "return settlement.claimed.delivery_id, settlement.claimed.attempt_number",
        "return settlement.claimed.delivery_id, 0",
    ),
    Patch(f"{_TABLES}.settlements", "AND (delivery_id, attempt) IN", "AND (delivery_id, 0) IN"),
    Patch(f"{_TABLES}.settlements", "RETURNING delivery_id, attempt\n", "RETURNING delivery_id, 0\n"),
)

MUTANTS = (
    Mutant(
        "fan-out outside the transaction",
        0,
        (
            Patch(
                _UNIT_OF_WORK,
                "            unit.woken.endpoints |= unit.outbox.flush()\n",
                "            self._late = unit.outbox\n",
            ),
            Patch(
                _UNIT_OF_WORK,
                "        result, woken = await self._database.write(transaction, writer)\n",
                "        result, woken = await self._database.write(transaction, writer)\n"
                "        outbox = self._late\n"
                "        def fan_out(connection):\n"
                "            outbox._store = EventTables(connection)\n"
                "            return outbox.flush()\n"
                "        woken.endpoints |= await self._database.write(fan_out, writer)\n",
            ),
        ),
    ),
    Mutant(
        "settled as succeeded before the send",
        0,
        (
            Patch(
                f"{_DELIVERY}.engine",
                "import asyncio\n",
                "import asyncio\nimport dataclasses\nfrom loyalpro.delivery.states import DeliveryStatus\n",
            ),
            Patch(
                f"{_DELIVERY}.engine",
                "            settlement = await self._attempt(claimed)\n",
                "            early = close_unsent(claimed, self._clock.now_ms())\n"
                "            await self._settler.settle(worker, dataclasses.replace(early, status=DeliveryStatus.SUCCEEDED))\n"
                "            settlement = await self._attempt(claimed)\n",
            ),
        ),
    ),
    Mutant(
        "a lease never expires",
        0,
        (Patch(f"{_TABLES}.leases", "WHERE expires_at < ?", "WHERE 1 = 0 AND expires_at < ?"),),
    ),
    Mutant(
        "a settlement is not fenced",
        1,
        (
            *_FENCED_BY_DELIVERY,
            Patch(f"{_TABLES}.settlements", "WHERE worker = ? AND", "WHERE ? <> '' AND"),
        ),
    ),
    Mutant("a settlement is fenced by the worker only", 198, _FENCED_BY_DELIVERY),
    Mutant(
        "a worker that was given up may still lease",
        1,
        (Patch(f"{_TABLES}.lanes", "if not known:", "if False:"),),
    ),
    Mutant(
        "a lease that nobody heard of is kept",
        25,
        (
            Patch(
                f"{_DELIVERY}.engine",
                'self._log.warning("claim_failed", code=error.code)\n                self._in_doubt = True\n',
                'self._log.warning("claim_failed", code=error.code)\n',
            ),
        ),
    ),
    Mutant(
        "a commit that comes late is not waited for",
        72,
        (Patch(f"{_TABLES}.leases", "SELECT 1 FROM workers WHERE id = ?{self._lock}", "SELECT 1 WHERE ? <> ''"),),
    ),
    Mutant(
        "a retry has a new event id",
        0,
        (
            Patch(
                "loyalpro.transport.request",
                "claimed.event_id, timestamp_s, claimed.body)",
                "claimed.event_id[:-1] + str(claimed.attempt_number % 10), timestamp_s, claimed.body)",
            ),
        ),
    ),
    Mutant(
        "a retry has new bytes",
        0,
        (
            Patch(
                f"{_DELIVERY}.engine",
                "OutgoingRequest(claimed.target.url, headers, claimed.body,",
                "OutgoingRequest(claimed.target.url, headers, claimed.body + b' ' * (claimed.attempt_number - 1),",
            ),
        ),
    ),
    Mutant(
        "given up in silence instead of exhausted",
        2,
        (Patch(f"{_DELIVERY}.decide", "status = DeliveryStatus.EXHAUSTED if", "status = DeliveryStatus.CANCELED if"),),
    ),
    Mutant(
        "given up at the third failure",
        2,
        (Patch(f"{_DELIVERY}.decide", "EXHAUSTED if due is None", "EXHAUSTED if due is None or attempt.number >= 3"),),
    ),
    Mutant(
        "order is ignored",
        3,
        (
            Patch(f"{_TABLES}.lanes", "AND earlier.sequence < d.sequence", "AND earlier.sequence < 0"),
            Patch(
                f"{_TABLES}.events",
                "due_at = None if queue in queued or self._has_pending(*queue) else now",
                "due_at = now",
            ),
        ),
    ),
    Mutant(
        "the next of a customer's is not let go",
        0,
        (
            Patch(
                f"{_TABLES}.settlements",
                "advance(self._connection, _finished(moved), now)",
                "_finished(moved)",
            ),
        ),
    ),
    Mutant(
        "tried after the window",
        0,
        (
            Patch(
                f"{_DELIVERY}.schedule",
                "return due if due + _SHORTEST_GAP_S * MS_PER_S <= last else last",
                "return due",
            ),
            Patch(f"{_DELIVERY}.schedule", "return now > first_attempt_at", "return now < 0 * first_attempt_at"),
            Patch(f"{_TABLES}.maintenance", "d.first_attempt_at < ? AND", "d.first_attempt_at < 0 * ? AND"),
        ),
    ),
    Mutant(
        "the window begins anew with each attempt",
        2,
        (
            Patch(
                f"{_TABLES}.lanes",
                "first_attempt_at=now if first_attempt_at is None else first_attempt_at",
                "first_attempt_at=now",
            ),
        ),
    ),
    Mutant(
        "the window begins when the event happened",
        0,
        (
            Patch(
                f"{_TABLES}.settlements",
                "first_attempt_at = v.column7",
                "first_attempt_at = LEAST(v.column7, created_at)".replace("LEAST", "MIN"),
            ),
        ),
    ),
    Mutant(
        "an interrupted attempt is not written down",
        0,
        (
            Patch(
                f"{_TABLES}.leases",
                "        insert_attempts(self._connection, [(id_, _interrupted(number, at)) for id_, _, number, at in freed])\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a rescue does not count the attempt",
        0,
        (
            Patch(
                f"{_TABLES}.leases",
                "SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at),\n    due_at",
                "SET due_at",
            ),
        ),
    ),
    Mutant(
        "a rescue does not count what was canceled",
        108,
        (Patch(f"{_TABLES}.leases", "        self._connection.execute(_COUNT, (worker,))\n", ""),),
    ),
    Mutant(
        "a cancel is overwritten",
        41,
        (
            Patch(
                f"{_TABLES}.settlements",
                "CAST(v.column1 AS TEXT) AND deliveries.status = 'pending'",
                "CAST(v.column1 AS TEXT)",
            ),
        ),
    ),
    Mutant(
        "a retry is never due",
        18,
        (Patch(f"{_DELIVERY}.decide", "status, due or now, attempt,", "status, 2 * due if due else now, attempt,"),),
    ),
    Mutant(
        "owed to endpoints that did not ask",
        2,
        (Patch("loyalpro.events.outbox", " if each.wants(kind[1])]", "]"),),
    ),
    Mutant(
        "a wake is lost, and nobody looks",
        0,
        (
            Patch(
                f"{_DELIVERY}.engine",
                "self._lanes.hint(sorted(endpoint_ids), self._clock.now_ms(), urgent=urgent)",
                "list(endpoint_ids)",
            ),
            Patch(f"{_DELIVERY}.engine", "self._lanes.survey(survey, self._clock.now_ms())", "list(survey.lanes)"),
        ),
    ),
    Mutant(
        "an open breaker is never probed",
        20,
        (
            Patch(
                f"{_DELIVERY}.lane",
                "due = self.target.health.probe_at is not None and",
                "due = False and self.target.health.probe_at and",
            ),
        ),
    ),
    Mutant(
        "a place is not given back",
        3,
        (Patch(f"{_DELIVERY}.lane", "        self.in_flight -= 1\n", ""),),
    ),
    Mutant(
        "a failed write of the outcome is taken for done",
        0,
        (
            Patch(
                f"{_DELIVERY}.settler",
                "                await self._clock.wait(self._never, pause_s)\n",
                "                return Settled(frozenset(), {}, ())\n",
            ),
        ),
    ),
    Mutant(
        "a lost answer is taken for a success",
        2,
        (
            Patch(
                f"{_DELIVERY}.engine",
                "outcome = classify(result)",
                "outcome = OutcomeCode.SUCCEEDED if result.failure else classify(result)",
            ),
        ),
    ),
    Mutant(
        "what a receiver asks to wait is not waited for",
        28,
        (Patch(f"{_DELIVERY}.decide", "        retry_after_ms=hold_ms,\n", "        retry_after_ms=None,\n"),),
    ),
    Mutant(
        "a replay leaves out what was never owed",
        73,
        (Patch("loyalpro.webhooks.replays", "elif MISSING in replay.statuses:", "elif False:"),),
    ),
)
