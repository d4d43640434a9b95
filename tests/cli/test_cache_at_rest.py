"""`dnsguard cache` on what an instance left behind, and answers as zone-file text."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dnsguard import clock, message_text
from dnsguard.cli import cache
from dnsguard.cli.cache_text import rows_of, zone_text
from dnsguard.core.learned import WAITING_MAX
from dnsguard.errors import ControlError
from dnsguard.store.place import FILE, Place
from dnsguard.store.resting import LONG
from dnsguard.store.rows import decode, encode
from dnsguard.store.sqlite import Database
from dnsguard.store.writer import mark_now
from tests.cli.test_cache import NAMES, run
from tests.net.asking import datagrams
from tests.net.running import on_a_loop, serve
from tests.net.upstream import Upstream
from tests.store.running import NAME, running

ALL = (*NAMES, "gone.shop.test")


def invoke(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cache.command, arguments, stdin)


@pytest.fixture
def left(tmp_path: Path) -> str:
    """The state directory of an instance that knew four names and has ended."""

    async def live() -> None:
        async with running(tmp_path) as one:
            for number, name in enumerate(ALL):
                one.knows(name, f"10.0.0.{number}")

    asyncio.run(live())
    return f"--state-dir={tmp_path}"


def names(left: str, *filters: str) -> list[str]:
    found = invoke("list", "--json", left, *filters)
    assert found.exit_code == 0, found.output
    return sorted(json.loads(line)["name"].rstrip(".") for line in found.stdout.splitlines())


def test_what_was_left_is_listed_as_if_it_ran(left: str, tmp_path: Path) -> None:
    assert names(left) == sorted(ALL)
    assert names(left, "--zone=shop.test", "--name=web-*") == list(NAMES[1:])
    found = invoke("list", left)
    assert found.stderr == f"no instance is running; this is what lies in {tmp_path / NAME}\n"
    assert "stale, 0 s old, dies in" in found.stdout.splitlines()[0]
    shown = invoke("show", "www.test", left)
    assert "  www.test. 30 IN A 10.0.0.0" in shown.stdout.splitlines()
    assert names(f"--state-dir={tmp_path / NAME}") == sorted(ALL)  # the instance's own directory


def test_how_long_it_lives_is_what_its_settings_said(tmp_path: Path) -> None:
    async def live() -> None:
        async with running(tmp_path, max_age=600.0) as one:
            one.knows("www.test")

    asyncio.run(live())
    found = json.loads(invoke("list", "--json", f"--state-dir={tmp_path}").stdout)
    assert 590 < found["dies_in"] <= 630


@pytest.mark.parametrize(("stored", "dies"), [(-1e308, 1e308), (1e308, -1e308), (0.0, 1e300)])
def test_a_row_of_no_sensible_life_is_shown_like_others(
    left: str, tmp_path: Path, stored: float, dies: float
) -> None:
    """Its checksum fits, so its numbers are what someone has written."""
    path = tmp_path / NAME / FILE
    database = Database(str(path), 1 << 20, True)
    for key, record in next(database.records(64)):
        row = decode(key, record)._replace(stored=stored, dies=dies)
        database.write([(key, row.dies, encode(row))], (), mark_now(clock.read()))
    database.close()
    assert names(left) == sorted(ALL)
    found = [
        json.loads(line)["dies_in"] for line in invoke("list", "--json", left).stdout.splitlines()
    ]
    assert all(seconds <= LONG for seconds in found)


def test_what_is_purged_at_rest_is_not_there_at_the_next_start(left: str, tmp_path: Path) -> None:
    nothing = invoke("purge", left)
    assert "purge what?" in str(nothing.exception)
    assert invoke("purge", "--zone=shop.test", left).stdout == "3 answers forgotten\n"
    assert names(left) == ["www.test"]

    async def again() -> int:
        async with running(tmp_path) as two:
            await two.keeper.loaded()
            return two.counts.loaded

    assert asyncio.run(again()) == 1


def test_more_is_purged_than_waits_to_be_written_otherwise(tmp_path: Path) -> None:
    there, many = f"--state-dir={tmp_path}", WAITING_MAX + 100

    async def live() -> None:
        async with running(tmp_path) as one:
            for number in range(many):
                one.knows(f"n{number}.test")

    asyncio.run(live())
    assert invoke("purge", "--all", there).stdout == f"{many} answers forgotten\n"
    assert names(there) == []


@pytest.mark.parametrize("form", ["json", "zone"])
def test_a_copy_of_what_one_left_is_given_to_another(left: str, tmp_path: Path, form: str) -> None:
    copy = str(tmp_path / "copy")
    there = f"--state-dir={tmp_path / 'other'}"

    async def other() -> None:
        async with running(tmp_path / "other") as one:
            one.knows("www.test", "10.9.9.9")

    asyncio.run(other())
    assert invoke("export", copy, left, f"--format={form}").exit_code == 0
    done = invoke("import", copy, there, f"--format={form}")
    assert (done.exit_code, done.stdout[:15]) == (0, "3 answers taken")
    assert names(there) == sorted(ALL)
    shown = invoke("show", "www.test", there)
    assert "10.9.9.9" in shown.stdout  # it knows better

    async def again() -> set[str]:
        async with running(tmp_path / "other") as two:
            await two.keeper.loaded()
            return {entry.key[:-5].decode() for entry in two.engine.cache.index.values()}

    assert len(asyncio.run(again())) == len(ALL)


def test_a_damaged_file_is_refused_and_left_alone(left: str, tmp_path: Path) -> None:
    file = tmp_path / NAME / FILE
    file.write_bytes(b"\0" * 4096)
    found = invoke("list", left)
    assert found.exit_code == 1
    assert "nothing can be done there" in str(found.exception)
    assert file.read_bytes() == b"\0" * 4096


def test_an_instance_that_holds_it_is_not_passed_by(left: str, tmp_path: Path) -> None:
    place = Place(str(tmp_path), NAME)
    place.enter()
    try:
        found = invoke("purge", "--all", left)
    finally:
        place.leave()
    assert "in use by another instance" in str(found.exception)
    assert "cannot be reached" in str(found.exception)
    assert names(left) == sorted(ALL)


def test_several_have_to_be_told_apart(left: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "other" / FILE).touch(mode=0o600)
    found = invoke("list", left)
    assert "2 instances have left their answers" in str(found.exception)
    assert str(tmp_path / "other") in str(found.exception)


def test_where_nothing_lies_there_is_nobody(tmp_path: Path) -> None:
    found = invoke("list", f"--state-dir={tmp_path}")
    assert "no instance is running" in str(found.exception)
    assert isinstance(invoke("list", f"--state-dir={tmp_path / 'none'}").exception, ControlError)


@on_a_loop
async def test_what_an_operator_imports_and_purges_reaches_the_disk(tmp_path: Path) -> None:
    """Both on a running instance: neither may be undone by its restart."""
    copy, there = str(tmp_path / "copy"), f"--state-dir={tmp_path / 'one'}"
    environ = {"DNSGUARD_STORE__DIR": str(tmp_path / "one")}
    async with Upstream() as upstream:
        async with (
            serve("--upstream", upstream.url, environ=environ) as one,
            datagrams(one.port) as client,
        ):
            for name in NAMES:
                await client.resolve(name)
            await run("export", copy, there)
            await run("purge", "--all", there)
            one.process.terminate()
            await one.ended()
        assert await asyncio.to_thread(names, there) == []
        async with serve("--upstream", upstream.url, environ=environ) as two:
            done = await run("import", copy, there)
            assert done.stdout.startswith("3 answers taken")
            two.process.terminate()
            await two.ended()
        assert await asyncio.to_thread(names, there) == sorted(NAMES)


# -- zone-file text


def test_a_zone_file_is_read_as_it_was_written() -> None:
    text = """\
;; www.test. IN A stored 1764317661.125
www.test. 60 IN CNAME lb.test.
lb.test. 30 IN A 192.0.2.1

; gone.test. IN A: no such name
;; x.test. IN TYPE65280 +do stored 1764317000
x.test. 5 IN TYPE65280 \\# 3 0102FF
"""
    one, two = rows_of(text.splitlines(), 0.0)
    assert (one["name"], one["stored"], two["stored"]) == (
        "www.test.",
        1764317661.125,
        1764317000.0,
    )
    again = zone_text(one) + "\n" + zone_text(two)
    assert list(rows_of(again.splitlines(), 0.0)) == [one, two]
    assert "192.0.2.1" in again
    assert "+do" in again


def test_a_name_with_any_octets_is_no_business_of_idna() -> None:
    """Found by fuzzing: a text of dnslib's is read by rules that not every label keeps."""
    name = "\\200" * 60 + ".test."
    text = f";; {name} IN A stored 5\ndb.test. 30 IN A 10.0.0.1\n"
    (row,) = rows_of(text.splitlines(), 77.0)
    assert (row["name"], row["stored"]) == (name, 5.0)
    assert b64decode(row["wire"])[12:].startswith(bytes.fromhex(row["key"])[:-3])


@pytest.mark.parametrize(
    ("rtype", "octets"),
    [
        (35, b"\0\1\0\2\2\0011\1\x12\6!^.*$!\0"),  # NAPTR: strings that are no text
        (35, b"\0\1\0\2\1u\7E2U+sip\3!a!\2sp\4else\0"),
        (16, b'\6a   b\t\3c"d\2\\e\0'),
        (16, b"\2\xc3\xa9\1\xff"),
        (5, b"\4\xff\0.a\4else\0"),
        (5, b"\4xn--\4else\0"),
        (6, b"\2ns\0\3a.b\0" + b"\0\0\0\7" * 5),
        (33, b"\0\0\0\5\0\x50\2\0a\4else\0"),
        (64, b"\0\1\3svc\4else\0\0\1\0\3\2h2"),  # SVCB
        (65, b"\0\1\0\0\1\0\0"),  # HTTPS: alpn without a protocol
        (257, b'\0\5issue\xff;"'),  # CAA
        (48, b"\1\1\3\x0d" + b"k" * 33),  # DNSKEY
        (13, b"\1a\2b "),  # HINFO
        (1, b"\1\2\3"),  # an address of three octets
        (65280, b""),
    ],
)
def test_whatever_an_answer_holds_is_read_as_it_was(rtype: int, octets: bytes) -> None:
    """Found by fuzzing: dnslib writes a NAPTR record in words that it does not read."""
    key = b"\2db\4test\0" + rtype.to_bytes(2, "big") + b"\0\1\0"
    record = b"\xc0\x0c" + rtype.to_bytes(2, "big") + b"\0\1\0\0\0\x1e"
    record += len(octets).to_bytes(2, "big") + octets
    wire = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1] + record
    row = {"name": "db.test.", "key": key.hex(), "stored": 5.0, "wire": b64encode(wire).decode()}
    (again,) = rows_of(zone_text(row).splitlines(), 77.0)
    assert (again["key"], again["stored"]) == (row["key"], 5.0)
    (found,) = message_text.read(b64decode(again["wire"])).sections["answer"]
    assert (found.ttl, found.octets) == (30, octets)


def test_what_has_no_form_in_a_zone_file_is_a_comment() -> None:
    key = b"\2db\4test\0\0\1\0\1\0"
    head = b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + key[:-1]
    of_chaos = head + b"\xc0\x0c\0\1\0\3\0\0\0\x1e\0\4\n\0\0\1"
    cut = head + b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\n\0"
    for wire, said in ((of_chaos, "a record of another class"), (cut, "a record past the end")):
        row = {"name": "db.test.", "key": key.hex(), "stored": 5.0}
        text = zone_text(row | {"wire": b64encode(wire).decode()})
        assert text.startswith("; db.test. IN A: ")
        assert said in text
        assert not list(rows_of(text.splitlines(), 77.0))


def test_records_by_hand_are_answers_of_now() -> None:
    text = "db.test. 30 IN A 10.0.0.1\nDB.test. 30 IN A 10.0.0.2\ndb.test. 30 IN AAAA ::1\n"
    found = list(rows_of(text.splitlines(), 77.0))
    assert [(row["name"], row["stored"]) for row in found] == [("db.test.", 77.0)] * 2
    assert zone_text(found[0]).count("IN A 10.0.0.") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("db.test. IN A 10.0.0.1", "name TTL IN type data"),
        ("db.test. soon IN A 10.0.0.1", "name TTL IN type data"),
        ("db.test. 99999999999 IN A 10.0.0.1", "at most"),
        ("db.test. 30 CH A 10.0.0.1", "name TTL IN type data"),
        ("db.test. 30 IN A 10.0.0", "is no record"),
        ("db.test. 30 IN WHAT 1", "WHAT"),
        ("db..test. 30 IN A 10.0.0.1", "not a domain name"),
        ("x. 5 IN TYPE65280 \\# 4 0102", "4 octets are announced"),
        (";; a..b. IN A stored 1", "not a domain name"),
        (";; a.b. IN WHAT stored 1", "WHAT"),
    ],
)
def test_a_line_that_is_not_understood_is_told(line: str, said: str) -> None:
    with pytest.raises(ControlError, match="line 2: ") as caught:
        list(rows_of(["", line], time.time()))
    assert said in str(caught.value)
