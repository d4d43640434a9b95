"""Settings as YAML: reads a file into settings with their lines, writes effective settings back.

A file is read as text, not as YAML's types: `off` stays `off`, and a value means the same here as
in the environment or behind `--set`. Sections may be nested or dotted. Aliases are refused,
because they make a small file mean a large one. Knows no key; imported only when a file is read
or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dnsguard.config.keys import Given, Origin, Plain, split
from dnsguard.errors import Mistake

# No real file comes near it; a wrong path (/dev/zero) would otherwise fill the memory.
FILE_BYTES_MAX = 1 << 20
# The deepest key has four levels, or as many as a zone has labels when somebody nests those.
DEPTH_MAX = 32

_NULL = "tag:yaml.org,2002:null"


class _Loader(yaml.SafeLoader):
    """Builds the tree of nodes, each with its place; no aliases, no bottomless nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._refuse("an alias (*name); write the value out", event)
        if self.depth >= DEPTH_MAX:
            self._refuse("nested too deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refuse(self, what: str, event: Any) -> NoReturn:
        raise yaml.composer.ComposerError(None, None, what, event.start_mark)


class _Walk:
    """What one file gives: settings in its order, and mistakes of form."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.given: list[Given] = []
        self.mistakes: list[Mistake] = []

    def origin(self, node: yaml.Node) -> Origin:
        return Origin("file", f"{self.path}:{node.start_mark.line + 1}")

    def mistake(self, node: yaml.Node, key: str, value: object, expected: str) -> None:
        self.mistakes.append(Mistake(f"{key} ({self.origin(node)})", value, expected))

    def section(self, node: yaml.MappingNode, above: str) -> None:
        """Flatten a mapping; a dot joins the sections, as in the keys' own names."""
        seen: set[str] = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                self.mistake(name, above or "top level", "?", "a plain name as the key")
                continue
            key = f"{above}.{name.value}" if above else name.value
            if name.value in seen:
                self.mistake(name, key, name.value, "a key once; it stands further up already")
                continue
            seen.add(name.value)
            if isinstance(value, yaml.MappingNode) and value.value:
                self.section(value, key)
            else:
                self.given.append(Given(key, self.texts(value, key), self.origin(name)))

    def texts(self, node: yaml.Node, key: str) -> str | tuple[str, ...] | None:
        if isinstance(node, yaml.SequenceNode):
            texts = []
            for item in node.value:
                if isinstance(item, yaml.ScalarNode):
                    texts.append(item.value)
                else:
                    self.mistake(item, key, "...", "a list of plain values")
            return tuple(texts)
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
            return None  # an empty section, `~`, `null` or nothing at all
        text: str = node.value
        return text


def compose(content: bytes) -> yaml.Node | None:
    """Return the root of one document, every node with its place; None if it is empty.

    Raises `yaml.YAMLError`, and what PyYAML lets through: `ValueError`, `OverflowError`.
    """
    return _Loader(content).get_single_node()


def read(path: Path) -> tuple[list[Given], list[Mistake]]:
    """The file's settings, and what is wrong with its form. Nothing in a file makes it raise."""
    walk = _Walk(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        return [], [Mistake("config", str(path), f"the path of a readable YAML file ({why})")]
    if len(content) > FILE_BYTES_MAX:
        return [], [Mistake("config", str(path), f"a file of at most {FILE_BYTES_MAX} bytes")]
    try:
        root = compose(content)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        return [], [Mistake("config", place, f"valid YAML; found: {error.problem}")]
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError and OverflowError: an escape beyond Unicode, which PyYAML hands to chr().
        reason = " ".join(str(error).split())
        return [], [Mistake("config", str(path), f"valid YAML; found: {reason}")]
    if isinstance(root, yaml.MappingNode):
        walk.section(root, "")
    elif root is not None and root.tag != _NULL:
        walk.mistake(root, "top level", "...", "keys with values, such as 'listen: 127.0.0.1:53'")
    return walk.given, walk.mistakes


def write(settings: Mapping[str, tuple[Plain | Sequence[Plain], str]]) -> str:
    """Known keys with their values, a comment on each; the keys of one section stand together."""
    lines: list[str] = []
    above: tuple[str, ...] = ()
    for name, (value, comment) in settings.items():
        *sections, leaf = split(name)
        for depth, section in enumerate(sections):
            if above[: depth + 1] != tuple(sections[: depth + 1]):
                lines.append(f"{'  ' * depth}{_scalar(section)}:")
        above = tuple(sections)
        # A path may hold anything; a comment must stay on its line.
        note = "".join(char if char.isprintable() else "?" for char in comment)
        lines.append(f"{'  ' * len(sections)}{leaf}: {_scalar(value)}  # {note}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    """One line of YAML, quoted where another reader would take it for something else than text."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.splitlines()[0]
