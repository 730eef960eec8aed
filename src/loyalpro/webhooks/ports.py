"""What the use cases of this package need from a unit of work: stores, the time, ids, and hints to the engine and to jobs."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from loyalpro.delivery.breaker import Health
from loyalpro.events.envelope import Event
from loyalpro.events.outbox import EventStore, NewDeliveryStore
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.webhooks.entities import (
    Counts,
    Delivery,
    DeliveryFilter,
    DeliverySnapshot,
    Endpoint,
    HourOfEndpoint,
    LastAttempt,
    PastAttempt,
    PastEvent,
    PastNotice,
    Reached,
    Replay,
    ReplayPage,
    Secret,
)


class EndpointStore(Protocol):
    """The endpoints that are not deleted."""

    def insert(self, endpoint: Endpoint) -> None:
        """Store a new endpoint."""
        ...

    def get(self, account_id: str, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
        """One endpoint; with `lock`, no other transaction changes it until this one ends."""
        ...

    def lock_and_count(self, account_id: str) -> int:
        """How many endpoints the account has. No other transaction counts them until this one ends."""
        ...

    def list_before(self, account_id: str, before_id: str | None, limit: int) -> list[Endpoint]:
        """Endpoints, newest first."""
        ...

    def with_url(self, account_id: str, url: str, limit: int) -> list[Endpoint]:
        """Endpoints with this URL, oldest first."""
        ...

    def lock_enabled(self, account_id: str, event_type: str, *, is_import: bool) -> list[Endpoint]:
        """Every enabled endpoint that gets events of this type, from imports or not, locked, in the order of their ids."""
        ...

    def update(self, endpoint: Endpoint) -> None:
        """Store the configuration of an endpoint."""
        ...

    def delete(self, account_id: str, endpoint_id: str, now: UnixMs) -> bool:
        """Mark the endpoint as deleted, which cancels its pending deliveries. False when there is none."""
        ...


class SecretStore(Protocol):
    """The signing secrets of endpoints. Changes need the lock of the endpoint."""

    def add(self, endpoint: Endpoint, version: int, secret: str, now: UnixMs, *, promoted: bool) -> None:
        """Store the newest secret, and remove expired ones."""
        ...

    def valid(self, endpoint_ids: Sequence[str], now: UnixMs) -> Mapping[str, list[Secret]]:
        """The secrets of each endpoint that are valid now, newest first."""
        ...

    def newest(self, account_id: str, endpoint_id: str) -> str:
        """The newest secret of an endpoint that exists, in clear text."""
        ...

    def expire_older(self, endpoint_id: str, version: int, at: UnixMs) -> None:
        """End every secret before this version at `at`, unless it ends sooner."""
        ...

    def promote(self, endpoint_id: str, version: int, now: UnixMs) -> None:
        """Sign the header that carries one signature with this version from now on."""
        ...


class CustomHeaderStore(Protocol):
    """The values of custom headers. Changes need the lock of the endpoint, unless it is new."""

    def read(self, endpoint: Endpoint) -> Mapping[str, str]:
        """The headers in clear text."""
        ...

    def store(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        """Replace the headers of an endpoint that is stored."""
        ...


class HealthStore(Protocol):
    """The results of the latest attempts of endpoints."""

    def of(self, endpoint_ids: Sequence[str]) -> Mapping[str, Health]:
        """The health of each of these endpoints."""
        ...

    def forget(self, endpoint_id: str, now: UnixMs, *, recovering: bool) -> None:
        """Reset the health; `recovering`: the backlog then goes out at a rising rate."""
        ...


class CounterStore(Protocol):
    """How many attempts ended in which way. Each attempt is counted once, at the time when it was settled."""

    def of_endpoint(self, endpoint_id: str, since: UnixMs, step_ms: int) -> list[Counts]:
        """The counts of one endpoint since an instant, by spans of `step_ms` that begin at multiples of it.

        Older ones are only known by the hour, and then by the day.
        """
        ...

    def by_hour(self, endpoint_ids: Sequence[str], since: UnixMs) -> list[HourOfEndpoint]:
        """The counts of these endpoints since an instant, by the hour."""
        ...

    def last_before(self, endpoint_ids: Sequence[str]) -> Mapping[str, UnixMs]:
        """When the last attempt of each of these endpoints was settled, of those that are counted by the hour."""
        ...


class DeliveryStore(NewDeliveryStore, Protocol):
    """Deliveries and their attempts."""

    def get(self, account_id: str, delivery_id: str) -> Delivery | None:
        """One delivery."""
        ...

    def list_before(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        wanted: DeliveryFilter,
        *,
        from_id: str | None = None,
    ) -> list[Delivery]:
        """Deliveries that match, newest first; `from_id`: none that is older than this one."""
        ...

    def bound(self, account_id: str, before_id: str | None, wanted: DeliveryFilter, most: int) -> str | None:
        """The oldest of the next `most` deliveries that a search has to examine; None when it comes to the end before that."""
        ...

    def count_after(
        self, account_id: str, after_id: str, wanted: DeliveryFilter, most: int, *, from_id: str | None
    ) -> int:
        """How many deliveries match that are newer than `after_id`, and not older than `from_id`, counted up to `most`."""
        ...

    def count_exhausted(self, account_id: str, most: int) -> int:
        """How many deliveries of an account are exhausted, counted up to `most`."""
        ...

    def last_attempts(self, deliveries: Sequence[Delivery]) -> Mapping[str, LastAttempt]:
        """The last attempt of each of these deliveries that has one, by the id of the delivery."""
        ...

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the deliveries that a tail names, newest first."""
        ...

    def waiting(self, endpoint_ids: Sequence[str], most: int) -> Mapping[str, int]:
        """How many deliveries of each endpoint are pending or parked, counted up to `most`."""
        ...

    def reached(self, account_id: str, event_ids: Collection[str]) -> Mapping[str, Reached]:
        """The deliveries of each of these events; an event without a delivery is left out."""
        ...

    def oldest_waiting(self, endpoint_id: str, most: int) -> UnixMs | None:
        """When the oldest of the pending or parked deliveries of an endpoint was made, of the `most` that are due first."""
        ...

    def given_up(self, endpoint_id: str, since: UnixMs, most: int) -> int:
        """How many deliveries of an endpoint were exhausted since an instant, counted up to `most`."""
        ...

    def attempts(self, delivery_id: str) -> list[PastAttempt]:
        """Every attempt of a delivery, first to last."""
        ...

    def lock(self, account_id: str, delivery_id: str) -> DeliverySnapshot | None:
        """The state of a delivery; no other transaction changes it, or erases its event, until this one ends."""
        ...

    def make_due(self, snapshot: DeliverySnapshot, now: UnixMs) -> None:
        """Make a manual attempt due now. If it fails, the delivery returns to the state of the snapshot."""
        ...

    def cancel(self, snapshot: DeliverySnapshot, now: UnixMs) -> None:
        """End a pending delivery, and make the next one of the customer's queue due."""
        ...

    def enqueue_forged(self, event: Event, endpoint: Endpoint, now: UnixMs) -> str:
        """Store a delivery that is signed wrongly and sent once; its id. Unless it is accepted, it ends as canceled."""
        ...

    def enqueue_past(self, event: PastEvent, endpoint: Endpoint, now: UnixMs) -> str:
        """Store a pending delivery of an event that the endpoint has no delivery of; its id. Needs the lock of the endpoint."""
        ...

    def renew(self, statuses: Sequence[str], event: PastEvent, endpoint: Endpoint, now: UnixMs) -> bool:
        """Make a delivery that ended in one of these states pending with a fresh window. Needs the lock of the endpoint."""
        ...

    def existing(self, delivery_ids: Collection[str]) -> set[str]:
        """Those of these ids that a delivery has."""
        ...


class PastEventStore(EventStore, Protocol):
    """Events."""

    def append(self, events: Sequence[tuple[Event, int]], *, test: bool = False) -> None:
        """Store events with the number of their deliveries; `test`: samples, which lists leave out."""
        ...

    def get(self, account_id: str, event_id: str) -> Event | None:
        """One event, samples included."""
        ...

    def customers_of(self, account_id: str, event_ids: Collection[str]) -> Mapping[str, str | None]:
        """The customer of each of these events that is kept; None for an event without one."""
        ...

    def is_kept(self, account_id: str, event_id: str) -> bool:
        """Whether the event is still stored."""
        ...

    def list_after(
        self,
        account_id: str,
        after_id: str | None,
        limit: int,
        *,
        event_type: str | None = None,
        customer_id: str | None = None,
    ) -> list[Event]:
        """The next events in the order of their commits, oldest first, without samples and erased ones."""
        ...

    def newest(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        most: int,
        *,
        event_type: str | None = None,
        customer_id: str | None = None,
    ) -> list[PastEvent]:
        """Events in the reverse order of their commits, those before `before_id`, without samples. `most` are looked at."""
        ...

    def newest_bound(self, account_id: str, before_id: str | None, most: int, *, customer_id: str | None) -> str | None:
        """The oldest of the next `most` events before `before_id`; None when there are fewer."""
        ...

    def around(self, account_id: str, event_id: str, customer_id: str, most: int) -> list[PastEvent]:
        """What preceded an event of a customer, and what followed it, at most so many of each, newest first."""
        ...

    def of_customer(
        self, account_id: str, customer_id: str, ids: tuple[str, str], limit: int, *, start: str = ""
    ) -> list[Event]:
        """A customer's events between two ids, both included, newest first, whose types begin with `start`.

        At most `limit` of the customer's newest events are looked at. Erased ones are left out.
        """
        ...

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the events that a tail names, newest first."""
        ...

    def hold(self, account_id: str, event_id: str) -> PastEvent | None:
        """One event without its body; no other transaction erases it until this one ends."""
        ...

    def hold_unerased(self, event_ids: Sequence[str]) -> set[str]:
        """The ids among these whose event is not erased; no other transaction erases them until this one ends."""
        ...


class ReplayStore(Protocol):
    """Replays, and the range of events of each."""

    def insert(self, replay: Replay) -> None:
        """Store a new replay, at the beginning of its range."""
        ...

    def get(self, account_id: str, endpoint_id: str, replay_id: str) -> Replay | None:
        """One replay."""
        ...

    def list_before(self, endpoint_id: str, before_id: str | None, limit: int) -> list[Replay]:
        """An endpoint's replays, newest first."""
        ...

    def estimated_total(self, replay: Replay) -> int:
        """About how many events the replay will have examined in the end."""
        ...

    def estimated_range(self, replay: Replay) -> int:
        """About how many events are in the range of a replay that is not stored."""
        ...

    def running(self) -> list[str]:
        """The ids of running replays that have work to do, oldest first."""
        ...

    def lock_running(self, replay_id: str) -> Replay | None:
        """A running replay, unless another process is working on it."""
        ...

    def next_events(self, replay: Replay, limit: int) -> ReplayPage:
        """The next events of the range, in the order of their commits."""
        ...

    def advance(self, replay: Replay, page: ReplayPage, replayed: int) -> None:
        """Move the replay to the end of a page, and count its events and the `replayed` deliveries that became due."""
        ...

    def finish(self, replay_id: str, status: str, now: UnixMs) -> None:
        """End a replay that is running."""
        ...


class NoticeStore(Protocol):
    """Notices to the owners of endpoints."""

    def list_before(
        self, account_id: str, before_id: str | None, endpoint_id: str | None, limit: int
    ) -> list[PastNotice]:
        """Notices, newest first."""
        ...


class WebhooksUnit(Protocol):
    """One database transaction, as this package sees it."""

    @property
    def now(self) -> UnixMs:
        """The time of the transaction."""
        ...

    @property
    def ids(self) -> IdFactory:
        """Makes ids."""
        ...

    @property
    def random_bytes(self) -> Callable[[int], bytes]:
        """Makes that many random bytes."""
        ...

    origin: Origin | None
    """The request that causes the events of this transaction."""

    @property
    def endpoints(self) -> EndpointStore:
        """Endpoints."""
        ...

    @property
    def secrets(self) -> SecretStore:
        """Signing secrets."""
        ...

    @property
    def custom_headers(self) -> CustomHeaderStore:
        """The values of custom headers."""
        ...

    @property
    def health(self) -> HealthStore:
        """The health of endpoints."""
        ...

    @property
    def counters(self) -> CounterStore:
        """Counts of attempts."""
        ...

    @property
    def deliveries(self) -> DeliveryStore:
        """Deliveries."""
        ...

    @property
    def events(self) -> PastEventStore:
        """Events."""
        ...

    @property
    def replays(self) -> ReplayStore:
        """Replays."""
        ...

    @property
    def notices(self) -> NoticeStore:
        """Notices."""
        ...

    def audit(self, account_id: str, action: str, object_id: str, changes: Mapping[str, Any] | None = None) -> None:
        """Store that the actor makes a change. `changes`: values before and after, without personal data."""
        ...

    def wake_endpoints(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """After the commit, hint to the engine that these endpoints have deliveries to send."""
        ...

    def wake_job(self, kind: JobKind) -> None:
        """After the commit, hint to the scheduler that this job has work to do."""
        ...
