"""Settings files: what YAML means here, mistakes with their lines, and effective settings back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from dnsguard.config import yaml_file
from dnsguard.config.keys import KEYS, ZONE_KEYS, find, is_section
from dnsguard.core import policy
from dnsguard.errors import ConfigError, Mistake
from tests.settings_from import SET, flag, loaded, mistakes_of, written


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "~\n",
        "---\n{}\n",
        "stale:\ncache: {}\nzones:\n",
        "zones:\n  a.b:\n    stale:\n    upstreams: 192.0.2.1\n",
    ],
)
def test_empty_files_and_sections_set_nothing(text: str, tmp_path: Path) -> None:
    found = loaded(file=written(tmp_path, text))
    assert found.policy.zones[0] == loaded().policy.zones[0]
    assert found.policy.cache == loaded().policy.cache


def test_values_are_text_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    found = loaded(
        file=written(
            tmp_path,
            "admin.listen: off\n"
            "listen: 127.0.0.1:5300\n"
            "cache.max_bytes: 0067108864\n"
            "prefetch: {fraction: .5, min_hits: 3}\n"
            "upstream.case_randomization: yes\n",
        )
    )
    assert found.admin is None
    assert found.listen[0].port == 5300
    assert found.policy.cache.max_bytes == 67108864
    assert found.policy.prefetch == policy.PrefetchPolicy(0.5, 3)
    assert found.policy.ask.case_randomization


@pytest.mark.parametrize(
    ("text", "line", "path", "advice"),
    [
        ("\n\nstale.maxage: 1d\n", 3, "stale.maxage", "the nearest is stale.max_age"),
        ("stale.max_age:\n", 1, "stale.max_age", "a value: a duration"),
        ("stale:\n  max_age: ~\n", 2, "stale.max_age", "a value: a duration"),
        ("stale:\n  max_age: {a: 1}\n", 2, "stale.max_age.a", "no such key"),
        ("stale: 1d\n", 1, "stale", "no such key"),
        ("gourd: {}\n", 1, "gourd", "no such key"),
        ("zones: {a.example: }\n", 1, "zones.a.example", "zones.a.example.upstreams"),
        ("log.level: info\nlog.level: info\n", 2, "log.level", "a key once"),
        ("log: {level: info}\nlog.level: info\n", 2, "log.level", "a key once; it is set already"),
        (
            "zones: {A.example: {upstreams: 192.0.2.1}, a.example.: {upstreams: 192.0.2.2}}\n",
            1,
            "zones.a.example..upstreams",
            "a key once; it is set already",
        ),
        ("? [a, b]\n: 1\n", 1, "top level", "a plain name as the key"),
        ("log:\n  ? {a: b}\n  : 1\n", 2, "log", "a plain name as the key"),
        ("listen: [[127.0.0.1:53]]\n", 1, "listen", "a list of plain values"),
        ("- listen\n", 1, "top level", "keys with values"),
        ("listen\n", 1, "top level", "keys with values"),
    ],
)
def test_mistakes_in_a_file_have_their_line(
    text: str, line: int, path: str, advice: str, tmp_path: Path
) -> None:
    file = written(tmp_path, text)
    mistake = mistakes_of(file=file)[0]
    assert mistake.path == f"{path} (file {file}:{line})"
    assert advice in mistake.expected


@pytest.mark.parametrize(
    ("text", "place", "advice"),
    [
        ("listen: [\n", ":2", "valid YAML"),
        ("a: b: c\n", ":1", "valid YAML"),
        ("\tlisten: x\n", ":1", "valid YAML"),
        ("a: &x 1\nb: *x\n", ":2", "an alias"),
        ("a: &x {b: *x}\n", ":1", "an alias"),
        ("a: 1\n---\nb: 2\n", ":2", "valid YAML"),
        ("[" * 5000, ":1", "nested too deep"),
        (b"listen: \xff\n", "", "valid YAML"),
        ('log.level: "\\UFFFFFFFF"\n', "", "valid YAML"),
        ('log.level: "\\U00110000"\n', "", "valid YAML"),
        ("log.level: \x00\n", "", "valid YAML"),
        ("#" * (1 << 20) + "\n", "", "at most 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_mistake(
    text: str | bytes, place: str, advice: str, tmp_path: Path
) -> None:
    file = written(tmp_path, text)
    (mistake,) = mistakes_of(file=file)
    assert (mistake.path, mistake.value) == ("config", f"{file}{place}")
    assert advice in mistake.expected


@pytest.mark.parametrize("name", ["none.yaml", ".", "\x00"])
def test_a_file_that_cannot_be_read_is_a_mistake(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    (mistake,) = mistakes_of(file=file)
    assert (mistake.path, mistake.value) == ("config", str(file))
    assert "the path of a readable YAML file" in mistake.expected


YAMLISH = st.text("[]{}:,-&*!|>'\"%#?~ \n\tabz.019\\\u00e9", max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60) | YAMLISH.map(str.encode) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_settings_or_mistakes(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in a file: Settings or ConfigError, never another exception."""
    file = written(tmp_path, content)
    try:
        zones = loaded(file=file).policy.zones
    except ConfigError as error:
        assert_that_all_say_something(error.mistakes)
    else:
        assert zones[0].name == "."


def assert_that_all_say_something(mistakes: Sequence[Mistake]) -> None:
    assert mistakes
    assert all(mistake.path and mistake.expected for mistake in mistakes)


# -- the effective settings, back through a file

KEPT = st.fixed_dictionaries(
    {},
    optional={
        "stale.max_age": st.integers(0, 30 * 86400_000).map(lambda ms: f"{ms}ms"),
        "stale.client_timeout": st.sampled_from(["auto", "1ms", "1.8s"]),
        "cache.max_bytes": st.integers(1 << 20, 1 << 45).map(str),
        "prefetch.fraction": st.floats(0, 1).map(repr),
        "upstream.case_randomization": st.sampled_from(["on", "off"]),
        "admin.listen": st.sampled_from(["off", "[::1]:9153"]),
        "keep_fresh.names": st.sampled_from(["", "on", "null,no.example,12", "a_b.example"]),
        "zones...upstreams": st.sampled_from(["tls://dns.example#x.example,fd00::a", "dns"]),
        "zones.cluster.local.stale.max_age": st.just("1d"),
        "zones.null.upstreams": st.sampled_from(["tcp://192.0.2.1", "192.0.2.1,[fd00::1]:5300"]),
        "zones.a.null.stale.mode": st.just("immediate"),
        "zones.12.upstreams": st.just("192.0.2.1"),
        "access.allow": st.sampled_from(["private,192.0.2.1", "::/0"]),
        "listen": st.sampled_from(["[::1]:53,127.0.0.1:0", "[fe80::1%eth0]:53"]),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(KEPT)
def test_what_is_shown_means_the_same_when_given_back(tmp_path: Path, kept: dict[str, str]) -> None:
    found = loaded(*(flag(key, text) for key, text in kept.items()))
    text = yaml_file.write(
        {name: (value, f"{origin}\n\x1b") for name, (value, origin) in found.effective.items()}
    )
    again = loaded(file=written(tmp_path, text), resolvers=())
    assert again == found
    assert {name: value for name, (value, _) in again.effective.items()} == {
        name: value for name, (value, _) in found.effective.items()
    }
    assert set(KEYS) <= set(again.effective)


def test_sections() -> None:
    assert all(is_section(name) for name in ("zones", "stale", "zones.a.b.stale"))
    assert not any(is_section(name) for name in ("listen", "stale.max_age", "zones.a", "gourd", ""))


def test_a_zone_key_has_one_spelling() -> None:
    name, key = find("zones.Cluster.LOCAL..stale.max_age", SET)
    assert name == "zones.cluster.local.stale.max_age"
    assert key is ZONE_KEYS["stale.max_age"]


def test_yaml_is_not_loaded_without_a_file() -> None:
    """PyYAML costs a server that has no file a megabyte or two for nothing."""
    code = (
        "import sys; from dnsguard.config import load; load((), {}, None, lambda: ['192.0.2.1']);"
        "sys.exit('yaml' in sys.modules or 'difflib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
