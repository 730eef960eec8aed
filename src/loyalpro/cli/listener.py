"""Opens the socket on which a server listens, and says what to do when that is not possible."""

import errno
import socket
from typing import Final

from loyalpro.kernel.errors import ConfigurationError

_BACKLOG: Final = 2_048
_ADVICE: Final = {
    errno.EADDRINUSE: "Stop the process that listens there, or choose another port with {variable}.",
    errno.EADDRNOTAVAIL: "It is not an address of this machine: choose one with {host_variable}, or 0.0.0.0 for all of them.",
    errno.EACCES: "Ports below 1024 need the capability CAP_NET_BIND_SERVICE: choose a higher one with {variable}.",
}
_UNKNOWN_HOST: Final = (
    "{host_variable} takes an address of this machine, or a name that resolves to one, without a scheme and a port."
)


def listen(host: str, port: int, variable: str, host_variable: str) -> socket.socket:
    """A listening socket. Clients can connect at once, and are served when the application has started.

    `ConfigurationError` names the variables of the port and the host.
    """
    try:
        listener = _bind(host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        advice = advise(error).format(variable=variable, host_variable=host_variable)
        reason = getattr(error, "strerror", None) or "not a host name"
        raise ConfigurationError(f"Cannot listen on {host}:{port} ({reason}). {advice}") from None
    listener.listen(_BACKLOG)
    listener.set_inheritable(True)
    return listener


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def advise(error: Exception) -> str:
    """What to do about the error of a socket, with the names of the variables left open."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return _UNKNOWN_HOST
    number = getattr(error, "errno", None)
    return _ADVICE.get(number or 0, "Choose another address with {host_variable}.")
