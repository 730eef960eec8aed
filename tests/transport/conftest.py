"""The fixture that starts receivers for tests of the sender."""

from collections.abc import Callable, Iterator
from ssl import SSLContext

import pytest

from support.receivers import Authority, RawServer, Script


@pytest.fixture
def serve(authority: Authority) -> Iterator[Callable[..., RawServer]]:
    made: list[RawServer] = []

    def start(
        script: Script, *, context: SSLContext | None = None, plain: bool = False, reads: bool = True
    ) -> RawServer:
        made.append(RawServer(script, None if plain else context or authority.context(), reads=reads))
        return made[-1]

    yield start
    for server in made:
        server.stop()
