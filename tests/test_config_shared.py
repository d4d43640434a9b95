"""`store.shared`: what its URLs say, what is wrong with one, and that nothing secret is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.settings_from import flag, loaded, mistakes_of, written

AS_WHOM = "sentinel_username=a&sentinel_password=%26"
ONE = (("10.0.0.1", 6379),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://10.0.0.1", {"kind": "single", "places": ONE}),
        ("redis://10.0.0.1/", {"places": ONE}),
        ("redis://redis.example:7000/3", {"places": (("redis.example", 7000),), "database": 3}),
        ("redis://[fd00::a]:7000", {"places": (("fd00::a", 7000),)}),
        ("redis://:word@10.0.0.1", {"user": "", "password": "word"}),
        ("redis://me:a%40b%2Fc%3A%2C@10.0.0.1", {"user": "me", "password": "a@b/c:,"}),
        ("redis://me:a,b@10.0.0.1", {"password": "a,b", "places": ONE}),
        ("rediss://10.0.0.1", {"tls": True, "check_name": True, "ca_file": "", "server_name": ""}),
        (
            "rediss://10.0.0.1?ssl_ca_certs=/ca%20.pem&ssl_certfile=/c&ssl_keyfile=/k#redis.test",
            {"ca_file": "/ca .pem", "certificate_file": "/c", "key_file": "/k",
             "server_name": "redis.test"},
        ),
        ("rediss://10.0.0.1?ssl_check_hostname=false", {"check_name": False}),
        (
            f"redis+sentinel://10.0.0.1,10.0.0.2:7,[fd00::a]/fleet/2?{AS_WHOM}",
            {"kind": "sentinel", "service": "fleet", "database": 2, "sentinel_user": "a",
             "sentinel_password": "&",
             "places": (("10.0.0.1", 26379), ("10.0.0.2", 7), ("fd00::a", 26379))},
        ),
        ("rediss+sentinel://10.0.0.1", {"tls": True, "service": "mymaster", "database": 0}),
        (
            "redis+cluster://me:word@10.0.0.1,10.0.0.2",
            {"kind": "cluster", "user": "me", "password": "word",
             "places": (("10.0.0.1", 6379), ("10.0.0.2", 6379))},
        ),
    ],
)  # fmt: skip
def test_what_a_url_says(text: str, expected: dict[str, object]) -> None:
    (server,) = loaded(flag("store.shared", text)).store.shared
    assert {name: getattr(server, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("10.0.0.1", "redis://10.96.0.20"),
        ("http://10.0.0.1", "redis://"),
        ("redis+x://10.0.0.1", "redis+sentinel://"),
        ("redis://", "redis://"),
        ("redis://10.0.0.1 ", ""),  # blanks around it are nobody's mistake
        ("redis://10.0.0. 1", "redis://"),
        ("redis://10.0.0.1:x", "a port"),
        ("redis://10.0.0.300", "redis://"),
        ("redis://10.0.0.1,10.0.0.2", "several places"),
        ("redis://10.0.0.1/fleet", "number of a data base"),
        ("redis+sentinel://10.0.0.1/fleet/x", "/SERVICE/0"),
        ("redis+cluster://10.0.0.1/0", "one data base"),
        ("redis://:secret/x@10.0.0.1", "%2F"),
        ("redis://:secret?x@10.0.0.1", "%3F"),
        ("redis://:secret#x@10.0.0.1", "%23"),
        ("redis://:secret@x@10.0.0.1", "%40"),
        ("redis://10.0.0.1?ssl_ca_certs=/ca", "rediss://"),
        ("redis://10.0.0.1#redis.test", "no #name"),
        ("rediss://10.0.0.1#", "redis://"),
        ("rediss://10.0.0.1?ssl_cert_reqs=none", "ssl_ca_certs, ssl_certfile"),
        ("rediss://10.0.0.1?ssl_ca_certs=", "with a value"),
        ("rediss://10.0.0.1?ssl_ca_certs=/a&ssl_ca_certs=/b", "each once"),
        ("rediss://10.0.0.1?ssl_certfile=/a", "together"),
        ("rediss://10.0.0.1?ssl_check_hostname=maybe", "on or off"),
        ("redis://10.0.0.1?sentinel_password=secret", "options from this list"),
        ("redis+x://u:secret@10.0.0.1?sentinel_password=secret", "redis+sentinel://"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_is(text: str, right: str) -> None:
    if not right:
        assert loaded(flag("store.shared", text)).store.shared
        return
    (mistake,) = mistakes_of(flag("store.shared", text))
    assert right in str(mistake)
    assert "secret" not in str(mistake)


def test_what_is_in_effect_is_shown_without_secrets() -> None:
    text = "redis+sentinel://me:secret@10.0.0.1,10.0.0.2/fleet?sentinel_password=secret"
    settings = loaded(flag("store.shared", text))
    shown = settings.effective["store.shared"].value
    assert shown == [
        "redis+sentinel://me:***@10.0.0.1,10.0.0.2/fleet?sentinel_password=***",
    ]
    assert "secret" not in repr(settings)


def test_a_comma_parts_urls_and_places() -> None:
    text = "redis+sentinel://10.0.0.1,10.0.0.2/fleet, rediss://10.0.0.3"
    first, second = loaded(environ={"DNSGUARD_STORE__SHARED": text}).store.shared
    assert first.places == (("10.0.0.1", 26379), ("10.0.0.2", 26379))
    assert second.places == (("10.0.0.3", 6379),)


def test_the_same_from_a_file(tmp_path: Path) -> None:
    file = written(tmp_path, "store:\n  shared: ['redis+cluster://10.0.0.1,10.0.0.2']\n")
    (server,) = loaded(file=file).store.shared
    assert len(server.places) == 2


def test_the_documented_urls_are_right() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs/settings.md").read_text()
    section = text.partition("## The URLs of a shared store")[2]
    urls = re.findall(r"^\| `(redis\S+)` \|", section, re.MULTILINE)
    assert len(urls) == 11
    assert len(loaded(*(flag("store.shared", url) for url in urls)).store.shared) == 11


def test_one_twice_is_a_mistake_that_shows_no_secret() -> None:
    one = flag("store.shared", "redis://:secret@10.0.0.1")
    (mistake,) = mistakes_of(one, one)
    assert "further up" in str(mistake)
    assert "secret" not in str(mistake)
