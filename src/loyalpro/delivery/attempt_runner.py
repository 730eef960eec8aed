"""One attempt: sign -> send -> classify, and again with another secret while the receiver refuses the signature."""

from collections.abc import Callable

import structlog

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Sender, SendResult, classify
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.decide import refuses_signature
from loyalpro.delivery.ports import Headers, Metrics, Sign
from loyalpro.delivery.rotation import others
from loyalpro.delivery.settlement import Attempt, SentRequest
from loyalpro.kernel.clock import MS_PER_S, Clock


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
        ends_s = self._clock.monotonic_s() + self._timeout_s
        sent: list[SentRequest] = []
        deciding = await self._send(claimed, claimed.target.primary, ends_s, sent)
        secret: int | None = None
        if refuses_signature(deciding):
            secret = await self._try_other_secrets(claimed, ends_s, sent)
        attempt = Attempt.of(claimed.attempt_number, sent, deciding if secret is None else sent[-1])
        self._metrics.attempted(attempt.outcome, sum(each.timings.total_ms for each in sent))
        return attempt, secret

    async def _try_other_secrets(self, claimed: Claimed, ends_s: float, sent: list[SentRequest]) -> int | None:
        """Send the request again with one other secret after another, until one is accepted or the time is up.

        Return the index of the secret that was accepted.
        """
        target = claimed.target
        for secret in others(len(target.secrets), target.primary, claimed.attempt_number):
            if self._clock.monotonic_s() >= ends_s:
                return None
            self._on_repeat(target.endpoint_id)
            request = await self._send(claimed, secret, ends_s, sent)
            if request.outcome is OutcomeCode.SUCCEEDED:
                return secret
            if not refuses_signature(request):
                return None
        return None

    async def _send(self, claimed: Claimed, secret: int, ends_s: float, sent: list[SentRequest]) -> SentRequest:
        """Send one request, append it to `sent`, and return it.

        `secret`: the index of the secret that signs the header which can carry only one signature.
        """
        started_at = self._clock.now_ms()
        headers, result = await self._exchange(claimed, secret, ends_s - self._clock.monotonic_s())
        request = SentRequest(
            started_at=started_at,
            outcome=classify(result),
            detail=result.detail,
            request_headers=headers,
            response=result.response,
            remote_ip=result.remote_ip,
            timings=result.timings,
        )
        sent.append(request)
        return request

    async def _exchange(self, claimed: Claimed, secret: int, timeout_s: float) -> tuple[Headers, SendResult]:
        """Sign and send. An internal error is a result too: it is logged, recorded and retried."""
        headers: Headers = ()
        try:
            headers = self._sign(claimed, timestamp_s=self._clock.now_ms() // MS_PER_S, primary=secret)
            return headers, await self._sender.send(
                OutgoingRequest(claimed.target.url, headers, claimed.body, timeout_s)
            )
        except Exception:  # noqa: BLE001 - logged, recorded and retried
            self._log.exception("attempt_crashed", delivery_id=claimed.delivery_id)
            return headers, SendResult.internal_error()
