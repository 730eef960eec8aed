"""Refuses certificates that name their host only in the common name of their subject, which libcurl would accept.

Such a name proves nothing: https://www.rfc-editor.org/rfc/rfc9525#section-2
"""

from collections.abc import Sequence
from typing import Final

from loyalpro.kernel.iteration import pull

Certificate = tuple[tuple[str, str], ...]
"""The fields of a certificate as `CURLINFO_CERTINFO` lists them, in order."""

_MAX_HOSTS: Final = 10_000
_ALTERNATIVE_NAME: Final = "X509v3 Subject Alternative Name"
_NAMES_OF_HOSTS: Final = ("DNS:", "IP Address:")


class CertificateNames:
    """Judges the certificate of each new connection, and remembers the hosts whose certificate it has refused.

    libcurl shows no certificate for a connection that is kept, nor for one that resumes a TLS session. Such a connection is as
    good as the last certificate that its host has shown.
    """

    def __init__(self) -> None:
        self._refused: dict[str, None] = {}

    def refuses(self, host: str) -> bool:
        """Return whether the last certificate of a host was refused. `host`: name and port."""
        return host in self._refused

    def accepts(self, host: str, chain: Sequence[Certificate]) -> bool:
        """Return whether a request may be sent. `chain`: the certificates, the host's first; empty if it showed none."""
        if not chain:
            return host not in self._refused
        self._refused.pop(host, None)
        if _names_hosts(chain[0]):
            return True
        if len(self._refused) == _MAX_HOSTS:
            del self._refused[pull(iter(self._refused))]
        self._refused[host] = None
        return False


def _names_hosts(certificate: Certificate) -> bool:
    """Return whether there is an alternative name of a host; libcurl compares those, and then no common name."""
    texts = (value for name, value in certificate if name == _ALTERNATIVE_NAME)
    return any(part.startswith(_NAMES_OF_HOSTS) for text in texts for part in text.split(", "))
