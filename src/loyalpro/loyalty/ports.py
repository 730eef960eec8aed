"""What the program needs of a unit of work: its stores, and what it emits and wakes.

Every method of a store runs inside the database transaction of the unit. A transaction that changes a customer's points or
events holds the row lock of the customer until it ends.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from loyalpro.events.new_event import NewEvent
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.loyalty.churn.ports import ChurnStore
from loyalpro.loyalty.earning import Campaign
from loyalpro.loyalty.entities import (
    Activity,
    Buyer,
    Customer,
    CustomerFilter,
    DayTotals,
    Erasure,
    ExportRows,
    Job,
    JobStatus,
    LiabilityPage,
    PastOrder,
    PointsAdjustment,
    Redemption,
    Refund,
    Retier,
    Reward,
    RowRefusal,
    StoredBody,
    Transaction,
)
from loyalpro.loyalty.expiry import Day
from loyalpro.loyalty.ledger import Allocation, Entry, EntryCause, EntryTotal, LedgerPosition, Lot
from loyalpro.loyalty.program import Program, ProgramVersion
from loyalpro.loyalty.tiers import Tier


class CustomerStore(Protocol):
    """Customers."""

    def insert(self, customers: Sequence[Customer]) -> set[str]:
        """Store new customers of one account; the ids of those whose external ids are free. Of two equal ones the first is."""
        ...

    def get(self, account_id: str, customer_id: str) -> Customer | None:
        """One customer, also a deleted one."""
        ...

    def candidates(self, account_id: str, wanted: CustomerFilter, before_id: str | None, limit: int) -> list[str]:
        """The ids of active customers, newest first, that match one of the filters: the one that fewest customers match."""
        ...

    def matching(self, account_id: str, ids: Sequence[str], wanted: CustomerFilter, limit: int) -> list[Customer]:
        """The active ones of these customers, of which there is at least one, that match every filter, newest first."""
        ...

    def named(self, account_id: str, starts: Collection[str], limit: int) -> list[str]:
        """The ids of active customers whose names begin with one of these texts in lower case, by name."""
        ...

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the customers that a tail names, newest first."""
        ...

    def merged_into(self, customer_id: str) -> list[str]:
        """The ids of the customers that were merged into this one."""
        ...

    def ids_of(self, account_id: str, external_ids: Collection[str]) -> list[str]:
        """The ids of the active customers that have these external ids, without a lock. There is at least one external id."""
        ...

    def due(self, now: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[tuple[str, str, UnixMs]]:
        """Account, id and `next_due_at` of customers that are due, by `next_due_at` and id: those after such a pair."""
        ...

    def accounts_to_review(self, now: UnixMs, first: str) -> list[str]:
        """The accounts with customers whose `tier_review_at` has passed, from `first` on, in their order."""
        ...

    def to_review(
        self, account_id: str, deadline: UnixMs, after: tuple[UnixMs, str] | None, limit: int
    ) -> list[tuple[str, UnixMs]]:
        """Id and `tier_review_at` of customers that are to be reviewed by a deadline, by both: those after such a pair."""
        ...

    def ids_after(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of active customers after an id, in their order."""
        ...

    def lock(self, account_id: str, customer_ids: Collection[str], *, with_deleted: bool = False) -> list[Customer]:
        """The active ones of these customers, of which there is at least one, locked in the order of their ids.

        `with_deleted`: the deleted ones too.
        """
        ...

    def update_details(self, customer: Customer) -> bool:
        """Store what is neither points nor a sequence. False when another customer of the account has this external id."""
        ...

    def update_points(self, customers: Sequence[Customer]) -> None:
        """Store balances, sequences and the times of purchases, of customers that changed in nothing else."""
        ...

    def update_state(self, customers: Sequence[Customer]) -> None:
        """Store all that follows from what happens: what `update_points` stores, the tier, its dates and blocks."""
        ...


class CustomerMoveStore(Protocol):
    """Rows that belong to a customer and are neither its ledger nor in its wallet."""

    def move(self, customer_id: str, into_id: str) -> None:
        """Make another customer the owner of all rows but the ledger's. Days and uses of campaigns are added up.

        Both customers are locked. Customers that were merged into the first one are merged into the other one then.
        """
        ...

    def remove_derived(self, customer_id: str) -> None:
        """Remove what was derived from a customer: identity values and its churn score."""
        ...


class ExportStore(Protocol):
    """Everything that is stored about customers, table by table."""

    def rows(self, section: str, account_id: str, customer_id: str, after: Any, limit: int) -> ExportRows:
        """The next rows of a section after the key `after`, in the order of their keys."""
        ...


class TransactionStore(Protocol):
    """Purchases."""

    def insert(self, transactions: Sequence[Transaction]) -> None:
        """Store purchases."""
        ...

    def get(self, account_id: str, transaction_id: str) -> Transaction | None:
        """One purchase."""
        ...

    def by_ids(self, account_id: str, transaction_ids: Collection[str]) -> list[Transaction]:
        """These purchases, of which there is at least one."""
        ...

    def by_external_ids(self, account_id: str, external_ids: Collection[str]) -> list[Transaction]:
        """The purchases that have these external ids, of which there is at least one."""
        ...

    def update_refunded(self, changes: Sequence[tuple[Transaction, Transaction]]) -> bool:
        """Store what refunds changed of purchases: each as it was read, and as it is now. False when one had changed."""
        ...

    def list_newest(
        self, account_id: str, customer_id: str | None, external_id: str | None, before_id: str | None, limit: int
    ) -> list[Transaction]:
        """Purchases, newest first."""
        ...

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the purchases that a tail names, newest first."""
        ...

    def past_orders(
        self, account_id: str, after_id: str, since: UnixMs, before_id: str | None, limit: int
    ) -> list[tuple[PastOrder, Buyer]]:
        """Purchases of active customers that happened since then, newest first, without those that are refunded in full."""
        ...


class RefundStore(Protocol):
    """Refunds of purchases."""

    def insert(self, refunds: Sequence[Refund]) -> None:
        """Store refunds."""
        ...

    def of_transactions(self, transaction_ids: Collection[str]) -> list[Refund]:
        """All refunds of these purchases, of which there is at least one, oldest first."""
        ...

    def by_external_ids(self, account_id: str, external_ids: Collection[str]) -> list[Refund]:
        """The refunds that have these external ids, of which there is at least one."""
        ...

    def list_newest(self, transaction_id: str, before_id: str | None, limit: int) -> list[Refund]:
        """The refunds of a purchase, newest first."""
        ...


class LedgerStore(Protocol):
    """Entries, lots and allocations."""

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        """Append entries."""
        ...

    def insert_lots(self, lots: Sequence[Lot]) -> None:
        """Store the lots of credits."""
        ...

    def insert_allocations(self, allocations: Sequence[Allocation]) -> None:
        """Store what entries took out of lots."""
        ...

    def update_lots(self, lots: Sequence[Lot]) -> None:
        """Store what remains of lots, their status, their dates, and their customer."""
        ...

    def lots_with_points(self, customer_ids: Collection[str]) -> list[Lot]:
        """All lots of these customers, of which there is at least one, that hold points."""
        ...

    def lots(self, lot_ids: Collection[str]) -> list[Lot]:
        """These lots, of which there is at least one, also those that hold no points."""
        ...

    def lots_of_transactions(self, transaction_ids: Collection[str]) -> list[Lot]:
        """The lots of these purchases, of which there is at least one, also those that hold no points."""
        ...

    def entries_of_source(self, source_id: str) -> list[Entry]:
        """The entries that a source made, in the order of their ids."""
        ...

    def entries_of_sources(self, source_ids: Collection[str]) -> list[Entry]:
        """The entries that these sources, of which there is at least one, made, in the order of their ids."""
        ...

    def allocations_of_entries(self, entry_ids: Collection[str]) -> list[Allocation]:
        """What these entries, of which there is at least one, took out of lots."""
        ...

    def allocations_of_lots(self, lot_ids: Collection[str]) -> list[Allocation]:
        """What was taken out of these lots, of which there is at least one."""
        ...

    def list_entries(self, customer_id: str, before_id: str | None, limit: int) -> list[Entry]:
        """A customer's entries, newest first."""
        ...

    def list_lots(self, customer_id: str, before_id: str | None, limit: int, *, only_open: bool = False) -> list[Lot]:
        """A customer's lots, newest first. `only_open`: those that hold points."""
        ...

    def next_to_expire(self, customer_id: str, limit: int) -> list[Lot]:
        """A customer's lots that hold points, soonest to expire first."""
        ...

    def causes(self, source_ids: Collection[str]) -> list[EntryCause]:
        """What caused entries, as far as these ids, of which there is at least one, are purchases, refunds or redemptions."""
        ...

    def position(self, customer_id: str, before: UnixMs | None) -> LedgerPosition:
        """Where a customer's ledger stood just before an instant; where it stands, for None."""
        ...

    def totals(self, customer_id: str, after: int, through: int) -> list[EntryTotal]:
        """The sum of a customer's entries of each type, from the sequence after `after` to the sequence `through`."""
        ...


class AdjustmentStore(Protocol):
    """Adjustments by hand."""

    def insert(self, adjustment: PointsAdjustment) -> bool:
        """Store an adjustment. False when another one of the account has this external id."""
        ...

    def by_external_id(self, account_id: str, external_id: str) -> PointsAdjustment | None:
        """The adjustment that has this external id."""
        ...


class RewardStore(Protocol):
    """Rewards."""

    def insert(self, reward: Reward) -> None:
        """Store a new reward."""
        ...

    def get(self, account_id: str, reward_id: str) -> Reward | None:
        """One reward, also an archived one."""
        ...

    def lock(self, account_id: str, reward_id: str) -> Reward | None:
        """One reward, locked."""
        ...

    def update(self, reward: Reward) -> None:
        """Store everything of a reward that is locked."""
        ...

    def list_newest(self, account_id: str, status: str | None, before_id: str | None, limit: int) -> list[Reward]:
        """Rewards, newest first."""
        ...

    def take_from_stock(self, reward_id: str, now: UnixMs) -> bool:
        """Take one piece out of the stock of a reward that has a stock. False when none is left."""
        ...

    def return_to_stock(self, pieces: Mapping[str, int], now: UnixMs) -> None:
        """Put pieces back into the stock of those of these rewards that have a stock, in the order of their ids."""
        ...


class RedemptionStore(Protocol):
    """Redemptions."""

    def insert(self, redemption: Redemption) -> bool:
        """Store a redemption. False when another one of the account has this external id."""
        ...

    def get(self, account_id: str, redemption_id: str) -> Redemption | None:
        """One redemption."""
        ...

    def by_ids(self, account_id: str, redemption_ids: Collection[str]) -> list[Redemption]:
        """These redemptions, of which there is at least one."""
        ...

    def by_external_id(self, account_id: str, external_id: str) -> Redemption | None:
        """The redemption that has this external id."""
        ...

    def of_transactions(self, transaction_ids: Collection[str]) -> list[Redemption]:
        """The redemptions that are linked to these purchases, of which there is at least one."""
        ...

    def reserved_of(self, customer_ids: Collection[str]) -> list[Redemption]:
        """The reservations of these customers, of which there is at least one."""
        ...

    def overdue(self, now: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[tuple[str, str, UnixMs]]:
        """Account, id and `reserved_until` of reservations whose time has passed, by it and the id: those after such a pair."""
        ...

    def counts(self, customer_id: str, reward_ids: Collection[str]) -> dict[str, int]:
        """How many redemptions a customer has, not returned, of each of these rewards, of which there is at least one."""
        ...

    def codes_in_use(self, account_id: str, codes: Collection[str]) -> set[str]:
        """Those of these codes, of which there is at least one, that a redemption has."""
        ...

    def update(self, changes: Sequence[tuple[Redemption, Redemption]]) -> None:
        """Store redemptions: each as it is stored, and as it becomes. Raises `LockTaken` when one is not as it was."""
        ...

    def list_newest(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        *,
        customer_id: str | None = None,
        transaction_id: str | None = None,
        external_id: str | None = None,
        code: str | None = None,
    ) -> list[Redemption]:
        """Redemptions that match every filter, newest first."""
        ...


class DayStore(Protocol):
    """The days of customers."""

    def add(self, days: Sequence[DayTotals]) -> None:
        """Add to stored days, and store new ones. Each day of a customer occurs once."""
        ...

    def totals(self, customer_ids: Collection[str], first: Day, last: Day) -> dict[str, DayTotals]:
        """The sum of each of these customers' days from `first` to `last`; without the customers that have none."""
        ...

    def sums_in(self, windows: Mapping[str, tuple[Day, Day]]) -> list[DayTotals]:
        """The sums of the days from the first to the last one of each customer's window; without the customers that have none.

        They have the last day of the window. There is at least one customer.
        """
        ...


class CampaignStore(Protocol):
    """Campaigns."""

    def during(self, account_id: str, first: UnixMs, last: UnixMs) -> Sequence[Campaign]:
        """The active campaigns that were running at some time from `first` to `last`, oldest first."""
        ...

    def insert(self, campaign: Campaign) -> None:
        """Store a new campaign."""
        ...

    def get(self, account_id: str, campaign_id: str, *, lock: bool = False) -> Campaign | None:
        """One campaign; locked, if it is to be changed."""
        ...

    def list_newest(self, account_id: str, status: str | None, before_id: str | None, limit: int) -> list[Campaign]:
        """Campaigns with this status, newest first."""
        ...

    def count_unarchived(self, account_id: str, most: int) -> int:
        """How many campaigns are not archived, counted up to `most`."""
        ...

    def update(self, before: Campaign, after: Campaign) -> None:
        """Store a campaign that was locked as `before`."""
        ...

    def uses(self, customer_ids: Collection[str], campaign_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """How often each of these customers has used each of these campaigns. There is at least one of both."""
        ...

    def add_uses(self, added: Mapping[tuple[str, str], int]) -> None:
        """Count uses, by campaign and customer."""
        ...


class ProgramStore(Protocol):
    """The programs of accounts."""

    def insert(self, account_id: str, program: Program, *, actor: str, now: UnixMs) -> None:
        """Store the first program of a new account."""
        ...

    def get(self, account_id: str) -> Program:
        """The rules in force. Raises `ProgramMissing` for an account without a program."""
        ...

    def lock(self, account_id: str) -> Program:
        """The rules in force, which no other transaction changes until this one ends. Raises `ProgramMissing`."""
        ...

    def change(self, account_id: str, before: Program, version: ProgramVersion, retired: Sequence[Tier]) -> None:
        """Put a version into force after the one before it, store its tiers, and retire others."""
        ...

    def version(self, account_id: str, version: int) -> ProgramVersion | None:
        """One version."""
        ...

    def list_versions(self, account_id: str, before: int | None, limit: int) -> list[ProgramVersion]:
        """Versions, newest first: those before a version."""
        ...

    def queue_retier(self, job_id: str, account_id: str, actor: str, now: UnixMs) -> None:
        """Store a job that moves all customers to the tiers that they have under the rules in force."""
        ...


class RetierStore(Protocol):
    """Jobs that apply changed tiers to the customers of an account."""

    def unfinished(self, limit: int) -> list[Retier]:
        """Jobs that have customers left, oldest first."""
        ...

    def lock(self, job: Retier) -> bool:
        """Lock an unfinished job whose cursor is still the same; False when there is none, or another transaction holds it."""
        ...

    def advance(self, job: Retier, cursor: str, done: int, now: UnixMs) -> None:
        """Move the cursor of a locked job."""
        ...

    def finish(self, job: Retier, now: UnixMs) -> None:
        """Mark a locked job as done."""
        ...


class ErasureStore(Protocol):
    """Erasures of deleted customers, and what they erase."""

    def insert(self, erasure: Erasure, now: UnixMs) -> None:
        """Store an erasure that is to be done."""
        ...

    def list_running(self, limit: int) -> list[str]:
        """The ids of customers whose erasure is not finished."""
        ...

    def lock(self, customer_id: str) -> Erasure | None:
        """The running erasure of a customer; None when there is none, or when another transaction has locked it."""
        ...

    def update(self, erasure: Erasure) -> None:
        """Store cursors and counts."""
        ...

    def finish(self, erasure: Erasure, now: UnixMs) -> None:
        """Mark the erasure as finished."""
        ...

    def next_events(self, erasure: Erasure, limit: int) -> list[StoredBody]:
        """The customer's next events to erase, in the order of their commits, locked."""
        ...

    def is_being_sent(self, event_id: str) -> bool:
        """Whether a delivery of the event is leased. Until the transaction ends, no worker can lease a pending one."""
        ...

    def cancel_deliveries(self, event_id: str, now: UnixMs) -> int:
        """Cancel the pending deliveries of an event, and release the deliveries that wait behind them; return how many."""
        ...

    def erase_event(self, event: StoredBody, now: UnixMs) -> None:
        """Replace the event's body by `event.body`, and erase what receivers answered to it."""
        ...

    def erase_purchases(self, customer_id: str, after_id: str, limit: int) -> list[str]:
        """Erase items and metadata of the customer's next purchases in the order of their ids; return these ids."""
        ...

    def erase_texts(self, customer_id: str, limit: int) -> int:
        """Erase free texts: reasons and items of refunds, notes in the ledger and of fraud cases; return in how many rows."""
        ...


class JobStore(Protocol):
    """Jobs, their pieces, and the rows that they refused."""

    def insert(self, job: Job) -> None:
        """Store a new job."""
        ...

    def get(self, account_id: str, job_id: str) -> Job | None:
        """One job."""
        ...

    def list_newest(self, account_id: str, kinds: Collection[str], before_id: str | None, limit: int) -> list[Job]:
        """Jobs of these kinds, newest first."""
        ...

    def unfinished(self, kinds: Collection[str]) -> list[Job]:
        """The jobs of these kinds that are queued or running, of all accounts, oldest first."""
        ...

    def lock(self, job: Job) -> bool:
        """Lock an unfinished job whose cursor is still the same; False without one, or when another transaction holds it."""
        ...

    def advance(self, before: Job, after: Job, now: UnixMs) -> None:
        """Store the cursor and the counts of an unfinished job, which is running from then on."""
        ...

    def finish(self, job: Job, status: JobStatus, now: UnixMs, result: str | None = None) -> bool:
        """End an unfinished job. False when it has ended."""
        ...

    def add_pieces(self, job_id: str, first: int, pieces: Sequence[bytes]) -> None:
        """Store pieces; `first` is the number of the first one."""
        ...

    def piece(self, job_id: str, number: int) -> bytes | None:
        """One piece."""
        ...

    def pieces(self, job_id: str, first: int, limit: int) -> list[bytes]:
        """The pieces from a number on, in their order."""
        ...

    def remove_pieces(self, job_id: str, before: int | None = None) -> None:
        """Remove pieces of a job, with numbers below `before`, or all."""
        ...

    def refuse(self, job_id: str, refusals: Sequence[RowRefusal]) -> None:
        """Store rows that were refused."""
        ...

    def refusals(self, job_id: str, after_line: int, limit: int) -> list[RowRefusal]:
        """The refused rows behind a line, in their order."""
        ...


class ReportStore(Protocol):
    """Sums over the log, and lists that reports and exports read page by page."""

    def liability(self, account_id: str, as_of: UnixMs, after_id: str, limit: int) -> LiabilityPage:
        """The sums of the next customers of an account, as of an instant."""
        ...

    def due(self, account_id: str, until: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[Customer]:
        """Active customers with something that becomes due up to an instant, in the order of the time and the id."""
        ...

    def activity(self, account_id: str, since: UnixMs, until: UnixMs, most: int) -> Activity:
        """What happened from an instant up to another one. At most `most` rows of each kind are counted."""
        ...

    def customers_after(self, account_id: str, tier_id: str | None, after_id: str, limit: int) -> list[Customer]:
        """The next active customers, oldest first."""
        ...

    def transactions_between(
        self, account_id: str, customer_id: str | None, after_id: str, before_id: str | None, limit: int
    ) -> list[Transaction]:
        """The next purchases behind an id, and in front of another one, oldest first."""
        ...

    def customer_ids_after(self, account_id: str, after_id: str, limit: int) -> list[str]:
        """The ids of the next customers, also of those that are not active any more."""
        ...

    def entries_after(
        self, account_id: str, customer_ids: Collection[str], after: tuple[str, int], limit: int
    ) -> list[Entry]:
        """The next entries of these customers, of which there is at least one, by customer and sequence, behind a place."""
        ...


class ErasureUnit(Protocol):
    """What one piece of an erasure needs of its unit of work."""

    @property
    def now(self) -> UnixMs:
        """The instant of this unit of work."""
        ...

    @property
    def erasures(self) -> ErasureStore:
        """Erasures of deleted customers."""
        ...


class LoyaltyUnit(ErasureUnit, Protocol):
    """The unit of work of this package's use cases."""

    @property
    def ids(self) -> IdFactory:
        """Makes ids."""
        ...

    @property
    def actor(self) -> str:
        """Who makes the changes. Entries and purchases store it."""
        ...

    @property
    def customers(self) -> CustomerStore:
        """Customers."""
        ...

    @property
    def customer_moves(self) -> CustomerMoveStore:
        """What else belongs to customers."""
        ...

    @property
    def exports(self) -> ExportStore:
        """Everything that is stored about customers."""
        ...

    @property
    def transactions(self) -> TransactionStore:
        """Purchases."""
        ...

    @property
    def refunds(self) -> RefundStore:
        """Refunds of purchases."""
        ...

    @property
    def ledger(self) -> LedgerStore:
        """Entries, lots and allocations."""
        ...

    @property
    def random_bytes(self) -> Callable[[int], bytes]:
        """Makes so many random bytes."""
        ...

    @property
    def adjustments(self) -> AdjustmentStore:
        """Adjustments by hand."""
        ...

    @property
    def rewards(self) -> RewardStore:
        """Rewards."""
        ...

    @property
    def redemptions(self) -> RedemptionStore:
        """Redemptions."""
        ...

    @property
    def days(self) -> DayStore:
        """The days of customers."""
        ...

    @property
    def campaigns(self) -> CampaignStore:
        """Campaigns."""
        ...

    @property
    def retiers(self) -> RetierStore:
        """Jobs that apply changed tiers."""
        ...

    @property
    def churn(self) -> ChurnStore:
        """Settings, models, runs and scores of churn."""
        ...

    @property
    def programs(self) -> ProgramStore:
        """The programs of accounts."""
        ...

    @property
    def reports(self) -> ReportStore:
        """Sums and lists for reports and exports."""
        ...

    @property
    def jobs(self) -> JobStore:
        """Imports and exports."""
        ...

    origin: Origin | None
    """The request that causes the events which are emitted from now on."""

    is_import: bool
    """Whether an import causes the events which are emitted from now on. Endpoints may leave such events out."""

    def emit(self, event: NewEvent) -> None:
        """Commit the event with what this unit of work changes."""
        ...

    def audit(self, account_id: str, action: str, object_id: str, changes: Mapping[str, Any] | None = None) -> None:
        """Store that the actor makes a change. `changes`: values before and after, without personal data."""
        ...

    def wake_job(self, kind: JobKind) -> None:
        """Run the job as soon as this unit of work is committed."""
        ...
