"""Files that change while they are used: a mounted Secret's certificate, a ConfigMap's values.

A kubelet swaps a whole directory by one link, so two files may be read on two sides of the swap;
what does not fit together is tried again, and until it fits the last that did is used. Of
what the files mean it knows how a certificate is taken, and no more.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path


class Watched:
    """Takes the files' content when it differs from the last that was taken."""

    def __init__(self, paths: tuple[str, ...], take: Callable[[], None]) -> None:
        self.paths = paths
        self._take = take
        self._taken: list[bytes] | None = None
        self._refused: list[bytes] = []

    def look(self) -> str | None:
        """Return "" when new content was taken, why it was not, or None when nothing is new."""
        try:
            found = [Path(path).read_bytes() for path in self.paths]
        except OSError as error:
            return self._refuse([], f"{error.filename}: {error.strerror}")
        if found == self._taken:
            self._refused = []
            return None
        try:
            self._take()
        except Exception as error:  # whatever the files' reader raises
            return self._refuse(found, " ".join(str(error).split()))
        self._taken, self._refused = found, []
        return ""

    def _refuse(self, found: list[bytes], why: str) -> str | None:
        """Say it once, and not at every look."""
        told = [*found, why.encode()]
        if told == self._refused:
            return None
        self._refused = told
        return why


def server_context() -> ssl.SSLContext:
    """A TLS server's context, still without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def take_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Have new connections use it. Raises OSError or ssl.SSLError, and then nothing has changed."""
    server_context().load_cert_chain(certificate, key, password=_no_password)
    context.load_cert_chain(certificate, key, password=_no_password)


def _no_password() -> str:
    """An encrypted key must not make the process ask its terminal."""
    raise ValueError("the key is encrypted; it must not be")
