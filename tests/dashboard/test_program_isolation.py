"""The owner of another account sees and changes nothing of this one's program."""

from collections.abc import Iterator

import pytest

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.loyalty.new_program import start_program
from loyalpro.storage.unit_of_work import UnitOfWork
from support.browser import Browser
from support.databases import Databases
from support.members import new_member
from support.scenes import Scene, case_of, import_of, reward_of
from support.server import Server


@pytest.fixture(scope="module")
def scene(databases: Databases) -> Iterator[Scene]:
    with Server(databases.fresh("sqlite")) as running:
        yield Scene(running)


@pytest.fixture(scope="module")
def stranger(scene: Scene) -> Browser:
    def work(unit: UnitOfWork) -> str:
        account = create_account(unit, CreateAccount("Elsewhere"))
        start_program(unit, account.id)
        return account.id

    other = scene.server.run(scene.server.application.runner.change(work))
    return new_member(scene.server, "owner", "stranger@example.com", other).browser


def test_pages_of_objects_are_not_found(scene: Scene, stranger: Browser) -> None:
    rule = f"/rules/earning/{scene.server.get('/v1/program')['earning']['rules'][0]['id']}"
    for path in (case_of(scene), reward_of(scene), import_of(scene), rule):
        stranger.open(path)
        assert stranger.status == 404, path
    for path in ("/fraud?status=all", "/rewards?status=all", "/rewards/redemptions", "/imports", "/audit"):
        stranger.open(path)
        assert stranger.status == 200
        for id_ in (*scene.ids.values(), "Ada Brandt", "Jo Lee"):
            assert id_ not in stranger.text, path


def test_changes_of_objects_are_not_made(scene: Scene, stranger: Browser) -> None:
    case, reward, trial = case_of(scene), reward_of(scene), import_of(scene)
    changes = (
        f"{case}/dismiss", f"{case}/accept", f"{case}/hold", f"{reward}/archive", f"{trial}/run", f"{trial}/cancel",
    )  # fmt: skip
    for path in changes:
        stranger.open("/rules/campaigns/new")
        stranger.send(path, note="mine")
        assert stranger.status == 404, path
    assert scene.server.get(f"/v1/fraud/cases/{scene.ids['case']}")["status"] == "open"
    assert scene.server.get(f"/v1/rewards/{scene.ids['reward']}")["status"] == "active"
