"""One attempt: sign -> send -> classify, once or more.

The request is sent again at once when a connection ended before the endpoint began to answer, and with another secret when the
receiver refuses the signature.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Sender, SendResult, classify
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.concealment import conceal_headers, conceal_response
from loyalpro.delivery.decide import refuses_signature
from loyalpro.delivery.ports import Headers, Metrics, Sign
from loyalpro.delivery.rotation import others
from loyalpro.delivery.settlement import Attempt, SentRequest
from loyalpro.kernel.clock import MS_PER_S, Clock, UnixMs

_MAX_REPEATS: Final = 4
"""In one attempt. A server that reloads can end a few connections, one after the other, before it answers on a new one."""


@dataclass(slots=True)
class _OpenAttempt:
    """An attempt that is under way. `repeats`: how many of the requests in `sent` were repeatable, and were sent again."""

    claimed: Claimed
    ends_s: float
    sent: list[SentRequest] = field(default_factory=list)
    repeats: int = 0


class AttemptRunner:
    """Makes attempts. All requests of one attempt together have `timeout_s`.

    `on_repeat` is called with the id of the endpoint before each request that its rate limit has not counted.
    """

    def __init__(
        self,
        *,
        sender: Sender,
        sign: Sign,
        clock: Clock,
        metrics: Metrics,
        timeout_s: float,
        on_repeat: Callable[[str], None],
    ) -> None:
        self._sender = sender
        self._sign = sign
        self._clock = clock
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._on_repeat = on_repeat
        self._log = structlog.get_logger("delivery")

    async def run(self, claimed: Claimed) -> tuple[Attempt, int | None]:
        """Return the attempt, and the index of the secret that was accepted.

        The index is None unless the receiver refused the primary secret and then accepted another one.
        """
        attempt = _OpenAttempt(claimed, self._clock.monotonic_s() + self._timeout_s)
        deciding = await self._send(attempt, claimed.target.primary)
        secret = await self._try_other_secrets(attempt) if refuses_signature(deciding) else None
        if secret is not None:
            deciding = attempt.sent[-1]
        if not claimed.forged:
            self._metrics.attempted(deciding.outcome, sum(each.timings.total_ms for each in attempt.sent))
        return Attempt.of(claimed.attempt_number, attempt.sent, deciding), secret

    async def _try_other_secrets(self, attempt: _OpenAttempt) -> int | None:
        """Send the request again with one other secret after another, until one is accepted or the time is up.

        Return the index of the secret that was accepted.
        """
        target = attempt.claimed.target
        for secret in others(len(target.secrets), target.primary, attempt.claimed.attempt_number):
            if self._is_over(attempt):
                return None
            self._on_repeat(target.endpoint_id)
            request = await self._send(attempt, secret)
            if request.outcome is OutcomeCode.SUCCEEDED:
                return secret
            if not refuses_signature(request):
                return None
        return None

    def _is_over(self, attempt: _OpenAttempt) -> bool:
        return self._clock.monotonic_s() >= attempt.ends_s

    async def _send(self, attempt: _OpenAttempt, secret: int) -> SentRequest:
        """Send a request, and again while it is repeatable; return the last one.

        `secret`: the index of the secret that signs the header which can carry only one signature.
        """
        while True:
            started_at = self._clock.now_ms()
            headers, result = await self._exchange(attempt, secret)
            attempt.sent.append(_sent_request(started_at, headers, result, attempt.claimed.target.headers))
            if not result.repeatable or attempt.repeats == _MAX_REPEATS or self._is_over(attempt):
                return attempt.sent[-1]
            attempt.repeats += 1

    async def _exchange(self, attempt: _OpenAttempt, secret: int) -> tuple[Headers, SendResult]:
        """Sign and send. An internal error is a result too: it is logged, recorded and retried."""
        claimed, remaining_s = attempt.claimed, attempt.ends_s - self._clock.monotonic_s()
        headers: Headers = ()
        try:
            headers = self._sign(claimed, timestamp_s=self._clock.now_ms() // MS_PER_S, primary=secret)
            target = claimed.target
            request = OutgoingRequest(
                target.url, headers, claimed.body, remaining_s, attempt.repeats, target.account_id
            )
            return headers, await self._sender.send(request)
        except Exception:  # noqa: BLE001 - logged, recorded and retried
            self._log.exception("attempt_crashed", delivery_id=claimed.delivery_id)
            return headers, SendResult.internal_error()


def _sent_request(started_at: UnixMs, headers: Headers, result: SendResult, custom: Headers) -> SentRequest:
    """What is recorded of a request, without the values of custom headers."""
    return SentRequest(
        started_at=started_at,
        outcome=classify(result),
        detail=result.detail,
        request_headers=conceal_headers(headers, custom),
        response=conceal_response(result.response, custom),
        remote_ip=result.remote_ip,
        timings=result.timings,
    )
