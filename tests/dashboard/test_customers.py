"""Program > Customers: who is found by what, what the page of one customer says, and what each role sees of it."""

import re
from collections.abc import Iterator

import pytest

from loyalpro.accounts.roles import ROLE_NAMES, Role
from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member
from support.receivers import Authority, RawServer, answer
from support.server import Server

EURO = {"currency": "EUR"}


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases, authority: Authority) -> Iterator[Server]:
    with Server(databases.fresh(request.param), authority.ca_file) as running:
        yield running


@pytest.fixture(scope="module")
def members(server: Server) -> dict[Role, Signed]:
    return {role: new_member(server, role) for role in ROLE_NAMES}


@pytest.fixture
def owner(members: dict[Role, Signed]) -> Browser:
    return members["owner"].browser


def words(browser: Browser) -> str:
    """The text of the page, without its tags."""
    text = re.sub(r"</?a\b[^>]*>", "", browser.text)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def names(browser: Browser) -> list[str]:
    """The names in the list, in its order."""
    return re.findall(r'<a class="row-link" href="/customers/[^"]+">([^<]+)</a>', browser.text)


def enrolled(server: Server, **fields: object) -> str:
    made: str = server.post("/v1/customers", fields)["id"]
    return made


def test_customers_are_found_by_what_is_known_of_them(server: Server, owner: Browser) -> None:
    zoe = enrolled(server, external_id="till-9", email="Zoe@Example.com", phone="+49 (0)171 555-12", name="Zoë Östlund")
    enrolled(server, name="Zora Falk", tags=["choir"])
    for text in ("till-9", "zoe@example.com", "49017155512", "+49 0171 555 12", zoe):
        owner.open(f"/customers?q={text.replace('+', '%2B').replace(' ', '+')}")
        assert names(owner) == ["Zoë Östlund"], text
    owner.open("/customers?q=choir")
    assert names(owner) == ["Zora Falk"]
    owner.open("/customers?q=zo")
    assert names(owner) == ["Zora Falk", "Zoë Östlund"]
    owner.open("/customers?q=ZO%C3%AB+%C3%B6st")
    assert names(owner) == ["Zoë Östlund"]
    for text in ("till", "example.com", "stlund", "555"):
        owner.open(f"/customers?q={text}")
        assert names(owner) == [], text
        assert "Nobody found" in owner.text


def test_the_list_has_the_newest_first_by_key(server: Server, owner: Browser) -> None:
    for number in range(51):
        enrolled(server, name=f"Row {number}")
    owner.open("/customers")
    first = names(owner)
    assert first[:2] == ["Row 50", "Row 49"]
    assert len(first) == 50
    [older] = re.findall(r'href="(/customers\?before=[^"]+)"', owner.text)
    owner.open(older)
    assert names(owner)[0] == "Row 0"


def test_a_customer_shows_where_each_point_came_from_and_who_was_told(
    server: Server, owner: Browser, authority: Authority
) -> None:
    with RawServer(lambda connection, _: connection.sendall(answer(200)), authority.context()) as receiver:
        endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        customer = enrolled(server, external_id="led-1", name="Lea Brandt")
        bought = {"customer_id": customer, "external_id": "order-1", "amount": 120000} | EURO
        made = server.post("/v1/transactions", bought)
        server.post(f"/v1/transactions/{made['id']}/refunds", {"amount": 2000})
        path = f"/v1/customers/{customer}/adjustments"
        server.post(
            path, {"points": 50, "reason_code": "goodwill", "note": "late parcel", "expires_at": "2099-01-05T10:00:00Z"}
        )
        server.until(
            f"/v1/deliveries?endpoint_id={endpoint['id']}&limit=100",
            lambda found: len(found["data"]) >= 6 and all(each["status"] == "succeeded" for each in found["data"]),
        )
        owner.open(f"/customers/{customer}")
        server.call("DELETE", f"/v1/webhook_endpoints/{endpoint['id']}")
    seen = words(owner)
    assert "Points available 1,230 no debt" in seen
    assert "Spent in 12 months 1,180.00 EUR 1 purchase" in seen
    assert "Taken back refund of order-1, 20.00 EUR −20 1,180" in seen
    assert "Earned order-1, 1,200.00 EUR +1,200 1,200" in seen
    assert "Adjusted goodwill: late parcel +50 1,230" in seen
    assert seen.count("1 of 1") == 3
    assert "1,180 of 5,000 points earned in 12 months. 3,820 more to Gold; Silver is kept until" in seen
    assert "50 of 50" in seen
    assert "1,180 of 1,200" in seen
    assert "5 Jan 2099" in seen
    assert "no open case" in seen


def test_a_long_ledger_is_read_by_key(server: Server, owner: Browser) -> None:
    customer = enrolled(server, name="Many Entries")
    for _ in range(27):
        server.post(f"/v1/customers/{customer}/adjustments", {"points": 1, "reason_code": "x"})
    owner.open(f"/customers/{customer}")
    assert "Entries 27 to 3" in owner.text
    [older] = re.findall(rf'href="(/customers/{customer}\?before=[^"]+)"', owner.text)
    owner.open(older)
    assert "Entries 2 to 1" in owner.text


def test_the_tabs_show_purchases_and_details(server: Server, owner: Browser) -> None:
    customer = enrolled(server, name="Tab Bed", tags=["vip"], metadata={"shoe": 41})
    server.post("/v1/transactions", {"customer_id": customer, "external_id": "tab-1", "amount": 990} | EURO)
    owner.open(f"/customers/{customer}/transactions")
    assert "tab-1 9.90 EUR +9 Completed" in words(owner)
    owner.open(f"/customers/{customer}/details")
    assert "vip" in owner.text
    assert "shoe" in owner.text


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_viewer_sees_nobody_in_full(server: Server, members: dict[Role, Signed], role: Role) -> None:
    browser = members[role].browser
    fields = {
        "external_id": f"mask-{role}",
        "email": f"{role}.mask@example.com",
        "phone": "+4930998877",
        "name": "Mira Maske",
    }
    customer = enrolled(server, **fields, metadata={"secret": "tattoo"})
    server.post(f"/v1/customers/{customer}/adjustments", {"points": 5, "reason_code": "x", "note": "cried at the till"})
    pages = [f"/customers/{customer}", f"/customers/{customer}/details", f"/customers?q=mask-{role}"]
    seen = ""
    for path in pages:
        browser.open(path)
        assert browser.status == 200
        seen += browser.text.replace(f'value="mask-{role}"', "")
    known = ["Mira Maske", f"{role}.mask@example.com", "+4930998877", f"mask-{role}", "tattoo", "cried at the till"]
    shown = [each for each in known if each in seen]
    assert shown == ([] if role == "viewer" else known)
    assert ("M… M…ke" in seen) == (role == "viewer")
    browser.open("/customers?q=mira")
    assert ("Nobody found" in browser.text) == (role == "viewer"), (
        "a start of a name would tell the rest, letter by letter"
    )


def test_who_is_gone_says_so(server: Server, owner: Browser) -> None:
    gone, into = enrolled(server, name="Goes Away"), enrolled(server, name="Stays Here")
    server.post(f"/v1/customers/{gone}/merge", {"into": into})
    owner.open(f"/customers/{gone}")
    assert f'<a href="/customers/{into}">the other customer</a>' in owner.text
    assert server.call("DELETE", f"/v1/customers/{into}").status == 200
    owner.open(f"/customers/{into}")
    assert "What was known of it is erased." in owner.text
    assert "Stays Here" not in owner.text


def test_the_customers_of_others_do_not_exist(server: Server, owner: Browser) -> None:
    for path in ("/customers/cus_01m8793ctx2zrb94rghckj4mw4", "/customers/nonsense", "/customers/nonsense/details"):
        owner.open(path)
        assert owner.status == 404
        assert "There is no such customer here." in owner.text


# -- changes ---------------------------------------------------------------------------------------------------------


def balance(server: Server, customer_id: str) -> int:
    points: int = server.get(f"/v1/customers/{customer_id}")["points"]["available"]
    return points


def test_an_adjustment_shows_its_effect_and_is_made_once(
    server: Server, members: dict[Role, Signed], owner: Browser
) -> None:
    customer = enrolled(server, name="Adja Just")
    server.post(f"/v1/customers/{customer}/adjustments", {"points": 1284, "reason_code": "x"})
    path = f"/customers/{customer}/adjust"
    fields = {"points": "-50", "reason": "goodwill", "note": "broken cup"}
    owner.open(path)
    owner.send(f"{path}/preview", fields=fields)
    assert "Available 1,284, afterwards 1,234" in owner.text
    assert "This sends points.adjusted to 0 endpoints." in owner.text
    assert balance(server, customer) == 1284
    key = owner.hidden("key")
    owner.send(path, fields=fields)
    assert "50 points are taken. 1,234 are available now." in owner.text
    assert f"goodwill: broken cup, by {members['owner'].person.email}" in words(owner)
    owner.send(path, fields=fields | {"key": key})
    assert balance(server, customer) == 1234, "a form that is sent again changes nothing"
    [entry, _] = server.get(f"/v1/customers/{customer}/ledger")["data"]
    assert (entry["points"], entry["note"], entry["actor"]) == (-50, "broken cup", members["owner"].person.actor)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"points": "many"}, "Write a whole number"),
        ({"points": "0"}, "Send points above 0 to give them"),
        ({"points": "-90"}, "has 0"),
        ({"points": "5", "expires_on": "soon"}, "Write the day like 2027-12-31"),
        ({"points": "5", "expires_on": "2020-01-01"}, "is past"),
        ({"points": "5", "reason": "revenge"}, "Choose a reason."),
    ],
)
def test_a_refused_adjustment_keeps_its_input(
    server: Server, owner: Browser, fields: dict[str, str], error: str
) -> None:
    customer = enrolled(server, name="Refu Sed")
    owner.open(f"/customers/{customer}/adjust")
    sent = {"reason": "goodwill", "note": "kept words"} | fields
    for path in ("adjust/preview", "adjust"):
        owner.send(f"/customers/{customer}/{path}", fields=sent)
        assert owner.status == 422
        assert error in owner.text
        assert "kept words" in owner.text
    assert balance(server, customer) == 0


def test_given_points_are_valid_through_the_day(server: Server, owner: Browser) -> None:
    customer = enrolled(server, name="Valid Through")
    owner.open(f"/customers/{customer}/adjust")
    owner.send(f"/customers/{customer}/adjust", points="+1,000", reason="promotion", expires_on="2098-12-31")
    [lot] = server.get(f"/v1/customers/{customer}/lots")["data"]
    assert (lot["original"], lot["expires_at"]) == (1000, "2099-01-01T00:00:00.000Z")


def test_support_has_a_limit_that_an_owner_sets(server: Server, members: dict[Role, Signed], owner: Browser) -> None:
    customer = enrolled(server, name="Limi Ted")
    support = members["support"].browser
    path = f"/customers/{customer}/adjust"
    owner.open("/members")
    owner.send("/members/support-limit", points="-3")
    assert "A limit is a whole number from 0" in owner.text
    owner.send("/members/support-limit", points="500")
    assert 'value="500"' in owner.text
    try:
        support.open(path)
        assert "up to 500 at once" in support.text
        support.send(path, points="501", reason="goodwill")
        assert support.status == 403
        assert "Your role may give or take up to 500 points at once. Ask an owner to do this." in support.text
        assert balance(server, customer) == 0
        support.send(path, points="500", reason="goodwill")
        assert balance(server, customer) == 500
        owner.open(path)
        owner.send(path, points="501", reason="goodwill")
        assert balance(server, customer) == 1001
    finally:
        owner.open("/members")
        owner.send("/members/support-limit", points="")


def test_a_merge_shows_both_and_moves_everything(server: Server, owner: Browser) -> None:
    gone = enrolled(server, name="Twin Left", email="twin@example.com", tags=["left"])
    into = enrolled(server, name="Twin Right", external_id="twin-2", tags=["right"])
    for customer, points in ((gone, 30), (into, 12)):
        server.post(f"/v1/customers/{customer}/adjustments", {"points": points, "reason_code": "x"})
    path = f"/customers/{gone}/merge"
    owner.open(f"{path}?into=twin")
    assert "Twin Right" in owner.text
    owner.open(f"{path}?into=nobody-else")
    assert "Nobody else found" in owner.text
    owner.open(f"{path}?into=twin-2")
    seen = words(owner)
    assert "Name Twin Left Twin Right Twin Right" in seen
    assert "E-mail twin@example.com – twin@example.com" in seen
    assert "Tags left right right, left" in seen
    assert "Points 30 12 42" in seen
    owner.send(path, into=into)
    assert owner.path == f"/customers/{into}"
    assert "Twin Left is merged into Twin Right." in owner.text
    assert balance(server, into) == 42
    assert server.get(f"/v1/customers/{gone}")["merged_into"] == into
    owner.open(path)
    assert owner.status == 404


def test_a_customer_is_deleted_by_its_name(server: Server, owner: Browser) -> None:
    customer = enrolled(server, name="Dele  Teme")
    path = f"/customers/{customer}/delete"
    owner.open(path)
    owner.send(path, confirm="Somebody Else")
    assert owner.status == 422
    assert "This is not its name. Nothing was deleted." in owner.text
    owner.send(path, confirm="Dele Teme")
    assert owner.path == "/customers"
    assert "The customer is deleted." in owner.text
    assert server.get(f"/v1/customers/{customer}") == {"id": customer, "deleted": True}


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_who_may_not_change_sees_no_button_for_it(server: Server, members: dict[Role, Signed], role: Role) -> None:
    customer = enrolled(server, name="Only Looked At")
    members[role].browser.open(f"/customers/{customer}")
    for word in ("Adjust points", "Merge", "Delete"):
        assert f">{word}</a>" not in members[role].browser.text
