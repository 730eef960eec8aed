"""Program > Transactions: a purchase is found by its number, says why it gave its points, and is refunded."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.accounts.roles import ROLE_NAMES, Role
from support.browser import Browser
from support.chromium import Browser as Chromium
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def members(server: Server) -> dict[Role, Signed]:
    return {role: new_member(server, role) for role in ROLE_NAMES}


@pytest.fixture
def support(members: dict[Role, Signed]) -> Browser:
    return members["support"].browser


def words(browser: Browser) -> str:
    """The text of the page, without its tags."""
    text = re.sub(r"</?a\b[^>]*>", "", browser.text)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def bought(server: Server, number: str, amount: int, **fields: Any) -> Any:
    """A purchase of a new customer."""
    customer = server.post("/v1/customers", {"name": "Bo Buyer"})["id"]
    body = {"customer_id": customer, "external_id": number, "amount": amount, "currency": "EUR"}
    return server.post("/v1/transactions", body | fields)


def test_a_purchase_is_found_by_its_number(server: Server, support: Browser) -> None:
    made = bought(server, "order-1", 4200)
    bought(server, "order-2", 100)
    for text in ("order-1", made["id"]):
        support.open(f"/transactions?q={text}")
        assert re.findall(r'class="row-link" href="(/transactions/[^"]+)"', support.text) == [
            f"/transactions/{made['id']}"
        ]
    for text in ("order", "txn_01m8793ctx2zrb94rghckj4mw4"):
        support.open(f"/transactions?q={text}")
        assert "No such purchase" in support.text
    support.open("/transactions")
    assert support.text.index("order-2") < support.text.index("order-1")


def test_a_purchase_says_why_it_gave_its_points(server: Server, support: Browser) -> None:
    item = {"name": "Beans", "sku": "bean-1", "quantity": 2, "amount": 4200}
    made = bought(server, "why-1", 4200, items=[item], channel="web", tax_amount=300)
    support.open(f"/transactions/{made['id']}")
    seen = words(support)
    assert "1 point per 1.00 EUR – +42" in seen
    assert "Beans bean-1 2 42.00 EUR" in seen
    assert "Earned +42" in seen
    assert "Bo Buyer" in seen
    assert "Nothing was refunded." in seen


def test_a_refund_shows_its_points_before_it_is_done(
    server: Server, members: dict[Role, Signed], support: Browser
) -> None:
    made = bought(server, "back-1", 10000)
    server.post(f"/v1/customers/{made['customer_id']}/adjustments", {"points": -90, "reason_code": "x"})
    path = f"/transactions/{made['id']}/refund"
    support.open(path)
    assert 'value="100.00"' in support.text
    fields = {"amount": "25", "reason": "a broken cup", "restore": "on"}
    support.send(f"{path}/preview", fields=fields)
    assert "25 points go back" in words(support)
    assert "75.00 EUR can be refunded afterwards." in support.text
    assert server.get(f"/v1/transactions/{made['id']}")["refunded_amount"] == 0
    key = support.hidden("key")
    support.send(path, fields=fields)
    assert "25.00 EUR are refunded. 25 points are taken back." in support.text
    assert f"a broken cup by {members['support'].person.email} 25.00 EUR −25" in words(support)
    support.send(path, fields=fields | {"key": key})
    after = server.get(f"/v1/transactions/{made['id']}")
    assert (after["refunded_amount"], after["points_clawed_back"]) == (2500, 25)
    [refund] = server.get(f"/v1/transactions/{made['id']}/refunds")["data"]
    assert (refund["amount"], refund["reason"]) == (2500, "a broken cup")


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ("100.01", "can still be refunded"),
        ("10.001", "Write the amount in EUR, such as 18.50."),
        ("much", "Write the amount in EUR, such as 18.50."),
        ("-5", "Write the amount in EUR, such as 18.50."),
        ("0", "Send an amount above 0"),
    ],
)
def test_a_refused_refund_keeps_its_input(server: Server, support: Browser, amount: str, error: str) -> None:
    made = bought(server, f"kept-{amount}", 10000)
    path = f"/transactions/{made['id']}/refund"
    support.open(path)
    for address in (f"{path}/preview", path):
        support.send(address, amount=amount, reason="kept words")
        assert support.status == 422
        assert error in support.text
        assert "kept words" in support.text
    assert server.get(f"/v1/transactions/{made['id']}")["refunded_amount"] == 0


def test_points_that_paid_for_it_come_back_only_if_wanted(server: Server, support: Browser) -> None:
    customer = server.post("/v1/customers", {"name": "Pays With Points"})["id"]
    server.post(f"/v1/customers/{customer}/adjustments", {"points": 500, "reason_code": "x"})
    redeemed = server.post("/v1/redemptions", {"customer_id": customer, "points": 200})["id"]
    body = {"customer_id": customer, "amount": 1000, "currency": "EUR", "redemption_ids": [redeemed]}
    made = server.post("/v1/transactions", body)
    path = f"/transactions/{made['id']}/refund"
    support.open(path)
    support.send(f"{path}/preview", amount="10", restore="on")
    assert "10 points go back, 200 that paid for it come back" in words(support)
    support.send(f"{path}/preview", amount="10")
    assert "come back" not in words(support)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_who_may_refund_has_a_button(server: Server, members: dict[Role, Signed], role: Role) -> None:
    made = bought(server, f"may-{role}", 100)
    members[role].browser.open(f"/transactions/{made['id']}")
    assert (">Refund</a>" in members[role].browser.text) == (role in ("owner", "support"))
    assert ("Bo Buyer" in members[role].browser.text) == (role != "viewer")


def test_the_effect_follows_what_is_typed_in_a_browser(
    server: Server, members: dict[Role, Signed], chromium: Chromium
) -> None:
    made = bought(server, "typed-1", 10000)
    with chromium.tab(f"http://127.0.0.1:{server.port}") as tab:
        tab.sign_in(members["owner"].browser.cookies["loyalpro"])
        page = tab.open(f"/transactions/{made['id']}/refund")
        page.wait_for_selector("text=100 points go back")
        page.fill("#amount", "20")
        page.wait_for_selector("text=20 points go back")
        tab.open(f"/customers/{made['customer_id']}/adjust")
        page.locator("#points").press_sequentially("-30")
        page.wait_for_selector("text=Available 100, afterwards 70")
        page.locator("#points").fill("-130")
        page.wait_for_selector("#effect :text('100')")
        tab.open("/me")
        page.keyboard.press("/")
        page.keyboard.type("typed-1")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/transactions/{made['id']}")
        tab.expect("422")
        tab.require_quiet()
