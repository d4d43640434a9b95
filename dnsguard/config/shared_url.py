"""The URLs of `store.shared`: what they say, what is wrong with one, and how it is shown.

`redis[s][+sentinel|+cluster]://[[USER]:PASSWORD@]PLACE[,PLACE…][/…][?OPTION=VALUE&…][#NAME]`. The
scheme, the user and the options' names are those of the client library; `#NAME` is what a
certificate has to be for where places are given by address, as in an upstream's URL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from dnsguard.config import addresses, units
from dnsguard.core.policy import SharedKind, SharedServer

A_SHARED = (
    "a URL such as redis://10.96.0.20:6379/0, rediss://…, redis+sentinel://ADDR,ADDR/SERVICE, "
    "redis+cluster://ADDR,ADDR"
)
PORTS: dict[SharedKind, int] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
MASTER = "mymaster"  # what Sentinel's own example calls the server

_SCHEME = re.compile(r"(rediss?)(?:\+(sentinel|cluster))?://(.*)", re.DOTALL)
_NEXT = re.compile(r",(?=\s*[a-z+]+://)")  # a comma may also part the places of one URL
_CREDENTIALS = re.compile(r"(?<=://).*@", re.DOTALL)
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")
_OPTION_PASSWORD = re.compile(r"(password=)[^&#]*")
_DATABASE = re.compile(r"[0-9]{1,5}")


def split(text: str) -> Sequence[str]:
    """The URLs of a list in one text."""
    return _NEXT.split(text)


def hide(text: str) -> str:
    """The text without anything that may be a secret; it need not be a URL that we understand."""
    return _OPTION_PASSWORD.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def show(server: SharedServer) -> str:
    """The URL without its passwords: what is printed ends up in tickets."""
    return server.shown


def read(text: str) -> SharedServer:
    """What one URL says; ValueError says what would be right, and no secret."""
    match = _SCHEME.fullmatch(text)
    if match is None or any(char.isspace() for char in text):
        raise ValueError(A_SHARED)
    scheme, word, rest = match.groups()
    kind: SharedKind = word or "single"  # type: ignore[assignment]
    rest, named, name = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    if "@" in path + query + name:
        raise ValueError("user and password with %2F, %3F, %23 and %40 for /, ?, # and @ in them")
    credentials, _, hosts = authority.rpartition("@")
    if "@" in credentials:
        raise ValueError("user and password with %40 for an @ in them")
    user, _, password = credentials.partition(":")
    options = _options(query, kind, scheme == "rediss")
    if named and scheme != "rediss":
        raise ValueError("no #name: only rediss:// has a certificate to check")
    service, database = _path(path, kind)
    return SharedServer(
        shown=_OPTION_PASSWORD.sub(r"\1***", _PASSWORD.sub(r"\1***@", text)),
        kind=kind,
        places=_places(hosts, kind),
        user=unquote(user),
        password=unquote(password),
        service=service,
        database=database,
        sentinel_user=options.get("sentinel_username", ""),
        sentinel_password=options.get("sentinel_password", ""),
        tls=scheme == "rediss",
        ca_file=options.get("ssl_ca_certs", ""),
        certificate_file=options.get("ssl_certfile", ""),
        key_file=options.get("ssl_keyfile", ""),
        check_name=units.read_switch(options.get("ssl_check_hostname", "true")),
        server_name=addresses.read_server_name(name, A_SHARED) if named else "",
    )


def _places(text: str, kind: SharedKind) -> tuple[tuple[str, int], ...]:
    places = tuple(addresses.read_server(one, PORTS[kind], A_SHARED) for one in text.split(","))
    if kind == "single" and len(places) > 1:
        raise ValueError("one server, or redis+sentinel:// or redis+cluster:// for several places")
    return places


def _path(path: str, kind: SharedKind) -> tuple[str, int]:
    """The service's name and the number of the data base."""
    service, _, number = path.partition("/") if kind == "sentinel" else ("", "", path)
    if number and (kind == "cluster" or not _DATABASE.fullmatch(number)):
        wanted = {
            "single": "/0 or another number of a data base behind the address",
            "sentinel": "/SERVICE or /SERVICE/0 behind the addresses",
            "cluster": "nothing behind the addresses: a cluster has one data base",
        }
        raise ValueError(wanted[kind])
    return (unquote(service) or MASTER if kind == "sentinel" else ""), int(number or 0)


def _options(query: str, kind: SharedKind, tls: bool) -> dict[str, str]:
    known = (*(TLS_OPTIONS if tls else ()), *(SENTINEL_OPTIONS if kind == "sentinel" else ()))
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in known or name in options or not value:
            every = ", ".join(known) or "none here; TLS options want rediss://"
            raise ValueError(f"options from this list, each once and with a value: {every}")
        options[name] = unquote(value)
    if ("ssl_certfile" in options) != ("ssl_keyfile" in options):
        raise ValueError("ssl_certfile and ssl_keyfile together")
    return options
