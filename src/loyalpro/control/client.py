"""The command's end of the control socket."""

import socket
from pathlib import Path
from typing import Final

from loyalpro.control.control_socket import address
from loyalpro.kernel.errors import ConfigurationError, StoreUnavailable

_TIMEOUT_S: Final = 30.0


def call(path: Path, request: bytes) -> bytes | None:
    """The reply of the server that listens at `path`; None when no server listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            with address(path) as where:
                connection.connect(where)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise ConfigurationError(
                f"The server at {path} belongs to another user. Run this command as that user, or as root."
            ) from None
        except OSError as error:
            raise _silent(path, error) from None
        return _exchange(connection, path, request)


def _exchange(connection: socket.socket, path: Path, request: bytes) -> bytes:
    reply = bytearray()
    try:
        connection.sendall(request)
        while chunk := connection.recv(64 * 1024):
            reply += chunk
    except OSError as error:
        raise _silent(path, error) from None
    if not reply.endswith(b"\n"):
        raise _silent(path, None)
    return bytes(reply)


def _silent(path: Path, error: OSError | None) -> StoreUnavailable:
    """The request may have been carried out: only its reply is missing."""
    reason = f" ({error.strerror or type(error).__name__})" if error else ""
    return StoreUnavailable(
        f"The server at {path} did not answer{reason}. Look with `loyalpro keys list` or `loyalpro accounts list` whether "
        "the command took effect, and then repeat it."
    )
