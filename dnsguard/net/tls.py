"""TLS towards upstreams: the strict profile (RFC 8310 section 5), and sessions that are resumed.

The certificate must be signed by an authority that this machine trusts and must carry the name
that the settings give; there is no falling back to clear text. Each server has a context of its
own, so that a session is only ever offered to the server that gave it (RFC 7858 section 3.4).
Imported when the first question goes over TLS, because loading it costs a start some megabytes.
"""

from __future__ import annotations

import ssl


class Context(ssl.SSLContext):
    """What one server is met with. `session` is the last that it gave, to be resumed."""

    session: ssl.SSLSession | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Offer the session: event loops have no argument for it."""
        return super().wrap_bio(
            incoming, outgoing, server_side, server_hostname, session or self.session
        )

    def remember(self, tls: ssl.SSLObject) -> None:
        """Keep the session of a connection that is about to end, if it has one worth keeping.

        With TLS 1.3 it comes some time after the handshake, so it is looked for at the end.
        """
        session = tls.session
        if session is not None and session.has_ticket:
            self.session = session


def context() -> Context:
    """Return a new one that trusts whom this machine trusts, SSL_CERT_FILE and _DIR included."""
    made = Context(ssl.PROTOCOL_TLS_CLIENT)  # which demands a certificate and checks its name
    made.load_default_certs()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["dot"])
    return made
