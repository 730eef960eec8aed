"""Who may see and change what: a row for each page and each change of the dashboard."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from loyalpro.accounts.roles import Right
from loyalpro.kernel.record import record

Audience = Literal["public", "awaiting_code", "signed_in"]
"""Who needs no right: everybody; who has given the password and not yet the code; every member."""
PUBLIC: Final = "public"
AWAITING_CODE: Final = "awaiting_code"
SIGNED_IN: Final = "signed_in"


@record
class Access:
    """What a route needs. `fresh`: that the password or a code was given within the last 10 minutes.

    `before_second_factor`: a member who has to set up a second factor reaches it before that. `noun`: what the address names,
    in the words of the page that says that it does not exist. `uploads`: its form may have a file.
    """

    need: Right | Audience
    fresh: bool = False
    before_second_factor: bool = False
    noun: str = "page"
    uploads: bool = False

    @property
    def right(self) -> Right | None:
        """The right that a member needs; None where none is needed."""
        match self.need:
            case "public" | "awaiting_code" | "signed_in":
                return None
            case right:
                return right


ROUTES: Final[Mapping[str, Access]] = {
    "home": Access(SIGNED_IN),
    "first_run": Access(PUBLIC),
    "first_run.create": Access(PUBLIC),
    "sign_in": Access(PUBLIC),
    "sign_in.password": Access(PUBLIC),
    "sign_in.code": Access(AWAITING_CODE),
    "sign_in.give_code": Access(AWAITING_CODE),
    "sign_out": Access(AWAITING_CODE, before_second_factor=True),
    "invitation": Access(PUBLIC),
    "invitation.new_person": Access(PUBLIC),
    "invitation.join": Access(SIGNED_IN, before_second_factor=True),
    "me": Access(SIGNED_IN),
    "me.update": Access(SIGNED_IN),
    "me.change_password": Access(SIGNED_IN),
    "me.switch": Access(SIGNED_IN, before_second_factor=True),
    "me.proof": Access(SIGNED_IN, before_second_factor=True),
    "me.prove": Access(SIGNED_IN, before_second_factor=True),
    "me.sessions": Access(SIGNED_IN),
    "me.sessions.end": Access(SIGNED_IN),
    "me.sessions.end_others": Access(SIGNED_IN),
    "me.second_factor": Access(SIGNED_IN, fresh=True, before_second_factor=True),
    "me.second_factor.begin": Access(SIGNED_IN, fresh=True, before_second_factor=True),
    "me.second_factor.confirm": Access(SIGNED_IN, fresh=True, before_second_factor=True),
    "me.second_factor.renew_codes": Access(SIGNED_IN, fresh=True),
    "me.second_factor.remove": Access(SIGNED_IN, fresh=True),
    "members": Access("members"),
    "members.invite": Access("members", fresh=True),
    "members.revoke_invitation": Access("members", fresh=True, noun="invitation"),
    "members.change_role": Access("members", fresh=True, noun="member"),
    "members.reset_password": Access("members", fresh=True, noun="member"),
    "members.remove": Access("members", fresh=True, noun="member"),
    "members.require_second_factor": Access("account", fresh=True),
    "members.limit_support": Access("account", fresh=True),
    "keys": Access("keys"),
    "keys.create": Access("keys", fresh=True),
    "keys.revoke": Access("keys", fresh=True, noun="API key"),
    "find": Access("customers.see"),
    "customers": Access("customers.see"),
    "customer": Access("customers.see", noun="customer"),
    "customer.transactions": Access("customers.see", noun="customer"),
    "customer.details": Access("customers.see", noun="customer"),
    "customer.adjust": Access("customers.change", noun="customer"),
    "customer.preview_adjustment": Access("customers.change", noun="customer"),
    "customer.make_adjustment": Access("customers.change", noun="customer"),
    "customer.ask_merge": Access("customers.change", noun="customer"),
    "customer.merge": Access("customers.change", noun="customer"),
    "customer.ask_delete": Access("customers.delete", fresh=True, noun="customer"),
    "customer.delete": Access("customers.delete", fresh=True, noun="customer"),
    "transactions": Access("customers.see"),
    "transaction": Access("customers.see", noun="purchase"),
    "transaction.ask_refund": Access("customers.change", noun="purchase"),
    "transaction.preview_refund": Access("customers.change", noun="purchase"),
    "transaction.refund": Access("customers.change", noun="purchase"),
    "webhooks": Access("endpoints.see"),
    "webhooks.rows": Access("endpoints.see"),
    "webhooks.new": Access("endpoints.change"),
    "webhooks.example": Access("endpoints.see"),
    "webhooks.check": Access("endpoints.change"),
    "webhooks.create": Access("endpoints.change"),
    "deliveries": Access("endpoints.see"),
    "deliveries.rows": Access("endpoints.see"),
    "deliveries.newer": Access("endpoints.see"),
    "deliveries.send": Access("deliveries.resend", noun="delivery"),
    "deliveries.cancel": Access("endpoints.change", noun="delivery"),
    "delivery": Access("endpoints.see", noun="delivery"),
    "delivery.now": Access("endpoints.see", noun="delivery"),
    "delivery.body": Access("customers.see_full", noun="delivery"),
    "delivery.send": Access("deliveries.resend", noun="delivery"),
    "delivery.cancel": Access("endpoints.change", noun="delivery"),
    "events": Access("endpoints.see"),
    "event": Access("endpoints.see", noun="event"),
    "event.resend": Access("deliveries.resend", noun="event"),
    "endpoint": Access("endpoints.see", noun="endpoint"),
    "endpoint.now": Access("endpoints.see", noun="endpoint"),
    "endpoint.try": Access("endpoints.change", noun="endpoint"),
    "endpoint.set_up": Access("endpoints.change", noun="endpoint"),
    "endpoint.receiver": Access("endpoints.see", noun="endpoint"),
    "endpoint.test": Access("endpoints.change", noun="endpoint"),
    "endpoint.test_result": Access("endpoints.see", noun="endpoint"),
    "endpoint.pause": Access("endpoints.change", noun="endpoint"),
    "endpoint.enable": Access("endpoints.change", noun="endpoint"),
    "endpoint.ask_delete": Access("endpoints.change", fresh=True, noun="endpoint"),
    "endpoint.delete": Access("endpoints.change", fresh=True, noun="endpoint"),
    "endpoint.settings": Access("endpoints.change", noun="endpoint"),
    "endpoint.change": Access("endpoints.change", noun="endpoint"),
    "endpoint.replays": Access("endpoints.see", noun="endpoint"),
    "endpoint.count_replay": Access("endpoints.change", noun="endpoint"),
    "endpoint.start_replay": Access("endpoints.change", noun="endpoint"),
    "endpoint.replay": Access("endpoints.see", noun="replay"),
    "endpoint.replay_now": Access("endpoints.see", noun="replay"),
    "endpoint.cancel_replay": Access("endpoints.change", noun="replay"),
    "endpoint.secret": Access("secrets", noun="endpoint"),
    "endpoint.show_secret": Access("secrets", fresh=True, noun="endpoint"),
    "endpoint.rotate_secret": Access("secrets", fresh=True, noun="endpoint"),
    "documentation": Access("endpoints.see"),
    "documentation.page": Access("endpoints.see"),
    "endpoint.promote_secret": Access("secrets", noun="endpoint"),
    "rules": Access("rules.see"),
    "rules.versions": Access("rules.see"),
    "rules.version": Access("rules.see", noun="version of the program"),
    "rules.again": Access("rules.change", noun="version of the program"),
    "rules.rule": Access("rules.change", noun="rule"),
    "rules.review_rule": Access("rules.change", noun="rule"),
    "rules.remove_rule": Access("rules.change", noun="rule"),
    "rules.tiers": Access("rules.change"),
    "rules.review_tiers": Access("rules.change"),
    "rules.settings": Access("rules.change"),
    "rules.review_settings": Access("rules.change"),
    "rules.save": Access("rules.change"),
    "campaigns.new": Access("rules.change"),
    "campaigns.create": Access("rules.change"),
    "campaign": Access("rules.change", noun="campaign"),
    "campaign.change": Access("rules.change", noun="campaign"),
    "campaign.pause": Access("rules.change", noun="campaign"),
    "campaign.resume": Access("rules.change", noun="campaign"),
    "campaign.archive": Access("rules.change", noun="campaign"),
    "fraud": Access("fraud.see"),
    "fraud.case": Access("fraud.see", noun="fraud case"),
    "fraud.accept": Access("fraud.change", noun="fraud case"),
    "fraud.dismiss": Access("fraud.change", noun="fraud case"),
    "fraud.hold": Access("fraud.change", noun="fraud case"),
    "fraud.release": Access("fraud.change", noun="fraud case"),
    "fraud.rules": Access("fraud.see"),
    "fraud.rule": Access("rules.change", noun="fraud rule"),
    "fraud.change_rule": Access("rules.change", noun="fraud rule"),
    "fraud.try_rule": Access("rules.change", noun="fraud rule"),
    "imports": Access("imports.see"),
    "imports.upload": Access("imports.change", uploads=True),
    "imports.columns": Access("imports.change", noun="uploaded file"),
    "imports.try": Access("imports.change", noun="uploaded file"),
    "import": Access("imports.see", noun="import"),
    "import.progress": Access("imports.see", noun="import"),
    "import.run": Access("imports.change", noun="import"),
    "import.cancel": Access("imports.change", noun="import"),
    "import.refused": Access("imports.change", noun="import"),
    "exports": Access("export", fresh=True),
    "exports.start": Access("export", fresh=True),
    "export.file": Access("export", fresh=True, noun="export"),
    "churn": Access("customers.see"),
    "churn.run": Access("rules.change"),
    "audit": Access("audit"),
    "audit.export": Access("audit", fresh=True),
    "rewards": Access("rewards.see"),
    "redemptions": Access("rewards.see"),
    "redemption.reverse": Access("rewards.change", noun="redemption"),
    "redemption.cancel": Access("rewards.change", noun="redemption"),
    "rewards.new": Access("rewards.change"),
    "rewards.create": Access("rewards.change"),
    "reward": Access("rewards.change", noun="reward"),
    "reward.change": Access("rewards.change", noun="reward"),
    "reward.archive": Access("rewards.change", noun="reward"),
}
"""The access of each route by its name. A route without a row, and a row without a route, refuse the start."""

IN_DEVELOPMENT: Final[Mapping[str, Access]] = {"components": Access(SIGNED_IN)}
"""The rows of pages that exist in development only."""


def require_complete(names: Iterable[str], rows: Mapping[str, Access]) -> None:
    """Raise `TypeError` unless each route has one row, and each row one route."""
    found = list(names)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise TypeError(f"These names belong to more than one route of the dashboard: {', '.join(twice)}.")
    if missing := sorted(set(found) - rows.keys()):
        raise TypeError(f"These routes have no row in web/dashboard/rights.py: {', '.join(missing)}.")
    if unused := sorted(rows.keys() - set(found)):
        raise TypeError(f"These rows of web/dashboard/rights.py have no route: {', '.join(unused)}.")
