"""Files and made-up names become the questions that were meant, and mistakes are told in words."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from dnslib import DNSBuffer, DNSQuestion

from dnsguard.bench import names
from dnsguard.bench.names import BadNames, fan_out, read_names


def read(question: bytes) -> tuple[str, int]:
    """By another reader."""
    parsed = DNSQuestion.parse(DNSBuffer(question))
    return str(parsed.qname), int(parsed.qtype)


def test_a_list_is_asked_in_turn() -> None:
    found = read_names("list:3", "AAAA", "shop.svc.cluster.local.")
    assert [read(found.questions[turn]) for turn in found.order] == [
        (f"n{number}.shop.svc.cluster.local.", 28) for number in range(3)
    ]


def test_a_file_gives_names_and_types(tmp_path: Path) -> None:
    path = tmp_path / "names"
    path.write_text(
        "; a comment\n# another\n\nweb.shop A\nWeb.Shop aaaa\n_pg._tcp.db SRV\nplain\n"
        "x TYPE65\na\\.b.c TXT\n. NS\n"
    )
    found = read_names(str(path), "A")
    assert [read(one) for one in found.questions] == [
        ("web.shop.", 1), ("web.shop.", 28), ("_pg._tcp.db.", 33), ("plain.", 1), ("x.", 65),
        ("a.b.c.", 16), (".", 2),
    ]  # fmt: skip


def test_an_escaped_dot_stays_inside_its_label() -> None:
    assert names.question(r"a\.b.c", 1) == b"\3a.b\1c\0\0\1\0\1"


def test_zipf_makes_the_first_names_the_frequent_ones() -> None:
    found = read_names("zipf:100:1", "A", seed=7)
    counts = Counter(found.order)
    assert len(found.questions) == 100
    assert counts.most_common(1)[0][0] == 0
    # 1 / H(100) of all, and the second half as often.
    assert counts[0] / len(found.order) == pytest.approx(0.193, abs=0.01)
    assert counts[1] / counts[0] == pytest.approx(0.5, abs=0.03)
    assert list(found.order) == list(read_names("zipf:100:1", "A", seed=7).order)
    assert list(found.order) != list(read_names("zipf:100:1", "A", seed=8).order)


def test_exponent_zero_prefers_nobody() -> None:
    counts = Counter(read_names("zipf:4:0", "A").order)
    assert all(count / counts.total() == pytest.approx(0.25, abs=0.01) for count in counts.values())


def test_the_search_list_is_walked_as_glibc_does() -> None:
    assert fan_out("api.example.com") == [
        "api.example.com.default.svc.cluster.local",
        "api.example.com.svc.cluster.local",
        "api.example.com.cluster.local",
        "api.example.com",
    ]
    assert fan_out("a.b.c.d.e") == [  # four dots are fewer than five
        "a.b.c.d.e.default.svc.cluster.local", "a.b.c.d.e.svc.cluster.local",
        "a.b.c.d.e.cluster.local", "a.b.c.d.e",
    ]  # fmt: skip
    assert fan_out("a.b.c.d.e.f") == ["a.b.c.d.e.f"]
    assert fan_out("api.example.com.") == ["api.example.com."]


def test_search_asks_for_both_families(tmp_path: Path) -> None:
    made_up = read_names("search:1", "A", search=("one", "two."))
    assert [read(one) for one in made_up.questions] == [
        (name, qtype)
        for name in ("n0.example.com.one.", "n0.example.com.two.", "n0.example.com.")
        for qtype in (1, 28)
    ]
    path = tmp_path / "names"
    path.write_text("api.example.org A\n")
    from_file = read_names(f"search:{path}", "A", search=("one",))
    assert [read(one)[0] for one in from_file.questions] == [
        "api.example.org.one.", "api.example.org.one.", "api.example.org.", "api.example.org.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("nowhere", "names in nowhere cannot be read"),
        ("list:0", "from 1 to"),
        ("list:x", "from 1 to"),
        (f"list:{names.NAMES_MAX + 1}", "from 1 to"),
        ("zipf:10:x", "exponent"),
        ("zipf:10:-1", "exponent"),
        ("zipf:10:nan", "exponent"),
        ("search:0", "from 1 to"),
        ("search:nowhere", "names in nowhere cannot be read"),
    ],
)
def test_a_mistake_is_told(spec: str, told: str) -> None:
    with pytest.raises(BadNames, match=told):
        read_names(spec, "A")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"; nothing\n", "no names"),
        (b"web A\nweb FOO\n", "line 2: 'FOO' is not a record type"),
        (b"a..b A\n", "not a domain name"),
        (b"\xff\xfe A\n", "not a text file"),
        ("bücher.example A\n".encode(), "only ASCII"),
    ],
)
def test_a_bad_file_is_told(tmp_path: Path, text: bytes, told: str) -> None:
    path = tmp_path / "names"
    path.write_bytes(text)
    with pytest.raises(BadNames, match=told):
        read_names(str(path), "A")


def test_a_name_of_full_length_passes_and_a_longer_one_does_not() -> None:
    longest = ".".join(["a" * 63] * 3 + ["b" * 61])
    assert len(names.question(longest, 1)) == 255 + 4
    with pytest.raises(BadNames, match="over 255"):
        names.question(longest + "b", 1)
