"""A frozen sender process of a whole server and of a worker, with the times of production."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.receivers import Authority
from support.server import Answer, Server


def until(server: Server, accepts: Callable[[Answer], bool]) -> Answer:
    """Ask for `/readyz` again and again, without a pause."""
    while not accepts(found := server.call("GET", "/readyz")):
        pass
    return found


def has_started(server: Server) -> bool:
    """Whether the sender process has answered its first ping: while it starts, it has more time."""
    client = server.application.sender._client
    return client is not None and client.has_answered


@pytest.mark.timeout(60)
@pytest.mark.parametrize("works_only", [False, True], ids=["server", "worker"])
def test_readiness_names_a_frozen_sender_process_until_it_is_replaced(
    tmp_path: Path, authority: Authority, *, works_only: bool
) -> None:
    with Server(f"sqlite:///{tmp_path / 'loyalpro.db'}", authority.ca_file, works_only=works_only) as server:
        until(server, lambda answer: answer.status == 200 and has_started(server))
        frozen = server.application.sender.process_id
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        answer = until(server, lambda answer: answer.status == 503)
        assert answer.json["delivers"] is False
        assert answer.json.get("accepts", True)
        [cause] = answer.json["causes"]
        assert "sender process" in cause
        assert "causes" not in until(server, lambda answer: answer.status == 200).json
        assert server.application.sender.process_id != frozen
