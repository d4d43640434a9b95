"""What a node is to have, the rules that follow, when a resolver is believed: all without I/O."""

from __future__ import annotations

import re

import pytest

from dnsguard.kube import node_iptables, node_nftables
from dnsguard.kube.node_plan import CHECK_DSCP, LEASE_SECONDS, CannotPlan, Plan, plan
from dnsguard.kube.node_watch import ANSWERS_MIN, SILENT_MAX, Finding, State, Step, Watch

LINK, SERVICE, WAY = "169.254.20.10", "10.96.0.10", "10.96.33.44"
SIX, SIX_SERVICE, SIX_WAY = "fd00:20::10", "fd00:96::a", "fd00:96::b"
BOTH = plan([LINK, SIX], [SERVICE, SIX_SERVICE], [(WAY, 53), (SIX_WAY, 53)])


def test_the_first_upstream_of_each_family_stands_in() -> None:
    upstreams = [("dns.example", 53), (WAY, 853), ("10.0.0.1", 53), ("10.0.0.2", 53), (SIX_WAY, 53)]
    found = plan([LINK, "FD00:20::0010"], [SERVICE], upstreams)
    assert found == Plan((LINK, SIX), (SERVICE,), ("10.0.0.1", SIX_WAY))
    assert (found.addresses, found.families) == ((LINK, SIX, SERVICE), (4, 6))
    assert found.of(6) == Plan((SIX,), (), (SIX_WAY,))
    assert found.without_fallback == ()


def test_who_has_no_fallback_is_known() -> None:
    assert plan([LINK, SIX], [], [(WAY, 53)]).without_fallback == (SIX,)
    assert plan([], [SERVICE], []).without_fallback == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [], []), "nothing to listen at"),
        ((["dns.example"], [], []), "--address dns.example: an address"),
        ((["fe80::1%eth0"], [], []), "an address"),
        ((["0.0.0.0"], [], []), "an address of one server"),
        ((["127.0.0.1"], [], []), "that pods can ask"),
        (([LINK], [LINK], []), "is given as --address and as --service-address"),
        ((["169.254.1.1", LINK], [], []), "more than one IPv4 --address"),
        (([LINK], [], [], [WAY, "10.0.0.1"]), "more than one IPv4 --fallback"),
        (([LINK], [SERVICE], [(SERVICE, 53)]), "every question would come back"),
        (([LINK], [SIX_SERVICE], [("FD00:96:0::a", 53)]), "every question would come back"),
        (([LINK], [SERVICE], [], [SERVICE]), "--fallback 10.96.0.10"),
        (([LINK], [], [], [], "a-name-that-is-too-long"), "--interface"),
        (([LINK], [], [], [], "eth0/1"), "--interface"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple[list[str], ...], said: str) -> None:
    with pytest.raises(CannotPlan, match=re.escape(said)):
        plan(*arguments)  # type: ignore[arg-type]


def test_packets_are_kept_only_while_the_word_holds() -> None:
    """Nothing but the set `alive` decides; what stands in it ends by itself."""
    text = node_nftables.install(BOTH, alive=True)
    for family, addresses in (("ip", (LINK, SERVICE)), ("ip6", (SIX, SIX_SERVICE))):
        leases = ", ".join(f"{address} timeout {LEASE_SECONDS}s" for address in addresses)
        assert f"elements = {{ {leases} }}" in text
        for line in text.splitlines():
            asked = "notrack" in line and f"{family} daddr" in line
            if asked and f"{family} saddr" not in line and "dscp" not in line:
                assert f"{family} daddr @alive" in line
    assert "timeout 4s" not in node_nftables.install(BOTH, alive=False)
    assert node_nftables.hold(BOTH).count("flush set") == 2
    assert "add element" not in node_nftables.lapse(BOTH)


def test_a_watchers_question_is_marked_and_from_no_loopback_address() -> None:
    """kube-proxy in iptables mode drops what is not tracked and goes to 127.0.0.1."""
    marked = f"dscp {CHECK_DSCP:#x}"
    for text in (node_nftables.install(BOTH, alive=False), node_nftables.prepare(BOTH)):
        assert text.count(marked) == 2
        assert "127.0.0.1" not in text
    watched = [rule for rule in node_iptables.rules(BOTH) if f"{CHECK_DSCP:#x}" in rule.words]
    assert {(rule.table, rule.chain) for rule in watched} == {("raw", "OUTPUT")}
    assert len(watched) == 2 * len(BOTH.addresses)


def test_each_family_has_a_table_and_they_go_whether_there_or_not() -> None:
    assert re.findall(r"^table (.*) {", node_nftables.install(BOTH, alive=False), re.MULTILINE) == [
        "ip dnsguard", "ip6 dnsguard",
    ]  # fmt: skip
    four = plan([LINK], [], [(WAY, 53)])
    assert "ip6" not in node_nftables.install(four, alive=True) + node_nftables.prepare(four)
    lines = node_nftables.remove().splitlines()
    assert len(lines) == 8
    assert all(add.split()[1:] == delete.split()[1:] for add, delete in
               zip(lines[::2], lines[1::2], strict=True))  # fmt: skip


def test_without_a_fallback_no_packet_gets_another_address() -> None:
    for found in (plan([LINK], [], []), plan([], [SERVICE], [(WAY, 53)])):
        text = node_nftables.install(found, alive=True)
        assert "daddr set" not in text
        assert "masquerade" not in text


def test_iptables_has_the_rules_of_node_cache_with_an_end() -> None:
    rules = node_iptables.rules(plan([LINK], [SERVICE], [], ["10.244.9.2"]))
    shown = [" ".join(rule.command("-I")) for rule in rules]
    for address in (LINK, SERVICE):
        for protocol in ("udp", "tcp"):
            asked = f"-d {address}/32 -p {protocol} --dport 53"
            told = f"-s {address}/32 -p {protocol} --sport 53"
            alive = f"-m recent --name dnsguard4 --rdest --rcheck --seconds {LEASE_SECONDS}"
            note = "-m comment --comment dnsguard"
            for expected in (
                f"raw -I PREROUTING {asked} {alive} {note} -j NOTRACK",
                f"raw -I OUTPUT {asked} {alive} {note} -j NOTRACK",
                f"raw -I OUTPUT {told} {note} -j NOTRACK",
                f"filter -I INPUT {asked} {note} -j ACCEPT",
                f"filter -I OUTPUT {told} {note} -j ACCEPT",
            ):
                assert f"iptables -w 5 -t {expected}" in shown
    redirected = [text for text in shown if "DNAT" in text]
    assert len(redirected) == 2
    assert all(LINK in text and text.endswith("10.244.9.2") for text in redirected)
    six = node_iptables.rules(plan([SIX], [], []))
    assert {rule.command("-C")[0] for rule in six} == {"ip6tables"}


def test_our_rules_are_known_in_a_list_by_their_comment() -> None:
    listed = (
        "-P PREROUTING ACCEPT\n"
        '-A PREROUTING -d 10.0.0.1/32 -m comment --comment "not dnsguard" -j ACCEPT\n'
        "-A PREROUTING -d 10.0.0.2/32 -p udp -m comment --comment dnsguard -j NOTRACK\n"
    )
    lines = listed.splitlines()
    assert [node_iptables.is_ours(line) for line in lines] == [False, False, True]
    assert node_iptables.delete(6, "raw", "OUTPUT", 3)[3:] == ["-t", "raw", "-D", "OUTPUT", "3"]


def steps(*findings: Finding) -> list[Step]:
    watch = Watch()
    return [watch.found(finding) for finding in findings]


YES, REFUSED, SILENT, WRONG = Finding.ANSWERED, Finding.REFUSED, Finding.SILENT, Finding.WRONG


def test_a_resolver_is_believed_at_once_when_it_is_new() -> None:
    assert steps(SILENT, REFUSED, YES, YES) == [
        Step.NOTHING, Step.NOTHING, Step.KEEP, Step.HOLD
    ]  # fmt: skip


def test_a_refusal_needs_no_second_opinion() -> None:
    assert steps(YES, REFUSED, REFUSED) == [Step.KEEP, Step.LET_GO, Step.NOTHING]


@pytest.mark.parametrize("finding", [SILENT, WRONG])
def test_silence_is_believed_in_a_row(finding: Finding) -> None:
    assert SILENT_MAX == 3
    assert steps(YES, finding, finding, YES, finding, finding, finding) == [
        Step.KEEP, Step.NOTHING, Step.NOTHING, Step.HOLD, Step.NOTHING, Step.NOTHING, Step.LET_GO,
    ]  # fmt: skip


def test_one_that_was_dead_has_to_answer_more_than_once() -> None:
    assert ANSWERS_MIN == 2
    assert steps(YES, REFUSED, YES, SILENT, YES, YES) == [
        Step.KEEP, Step.LET_GO, Step.NOTHING, Step.NOTHING, Step.NOTHING, Step.KEEP,
    ]  # fmt: skip


def test_a_process_that_ends_is_let_go_once() -> None:
    watch = Watch()
    assert watch.ended() is Step.NOTHING
    watch.found(YES)
    assert (watch.ended(), watch.state, watch.ended()) == (
        Step.LET_GO, State.LET_GO, Step.NOTHING,
    )  # fmt: skip
