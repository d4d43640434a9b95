"""The result of replayed outages as one page: a file that needs nothing else, now or in ten years.

No script, no request to anywhere, one drawing of each scenario for wide screens and paper and one
for phones. Everything that comes from a result is escaped, and a source is a link only if it is
http or https. The layout is in outage_page.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

from dnsguard.bench import outage_words as words
from dnsguard.bench.outage_plot import BAND_COLOURS, NARROW, WAITS, WIDE, draw
from dnsguard.sim.result import Numbers, Result, ScenarioRun, SystemRun

TEMPLATE = Path(__file__).with_name("outage_page.html")
# What the answers' sources are called where a reader may not know them.
SOURCES = {
    "hit": "cache, within its TTL",
    "stale": "cache, past its TTL",
    "upstream": "upstream, just asked",
    "pin": "pinned by the operator",
    "synthesized": "made up (it cannot exist)",
    "failure": "nowhere: an error",
    "none": "nowhere: no answer",
    "client": "the client's own cache",
}


def page(result: Result) -> str:
    """The page as HTML. Raises NoPlot where matplotlib is missing."""
    sentence = words.headline(result)
    parts = {
        "title": escape(_title(result)),
        "lead": f'<p class="lead">{escape(sentence)}</p>' if sentence else "",
        "how": escape(_how(result)),
        "survival": _survival(result),
        "key": _key(),
        "notes": _list(result.made.notes),
        "scenarios": "\n".join(_scenario(n, one) for n, one in enumerate(result.scenarios)),
        "settings": _settings(result),
        "again": _again(result),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(parts)


def _title(result: Result) -> str:
    if len(result.scenarios) == 1:
        return f"{result.scenarios[0].scenario.title}, replayed"
    return f"{len(result.scenarios)} outages, replayed"


def _how(result: Result) -> str:
    made = result.made
    facts = made.date, f"dnsguard {made.dnsguard}", words.MODES[made.mode], made.machine
    return " · ".join(filter(None, facts))


# --- tables --------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[str], kind: str = "stack") -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(title: str, cells: Iterable[str], below: str = "") -> str:
    small = f"<small>{escape(below)}</small>" if below else ""
    return f'<tr><th scope="row">{escape(title)}{small}</th>{"".join(cells)}</tr>'


def _cell(head: str, text: str, *kinds: str, below: str = "") -> str:
    kind = " ".join(filter(None, kinds))
    attribute = f' class="{escape(kind)}"' if kind else ""
    small = f"<small>{escape(below)}</small>" if below else ""
    return f'<td data-head="{escape(head)}"{attribute}><span>{escape(text)}{small}</span></td>'


def _list(items: Iterable[str]) -> str:
    found = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{found}</ul>" if found else ""


def _survival(result: Result) -> str:
    """A row for each scenario, a column for each system."""
    systems = result.systems()
    rows = []
    for one in result.scenarios:
        runs = {run.name: run for run in one.systems}
        best = words.best(words.SURVIVED, one.systems)
        cells = [
            _survived(runs[name], name in best) if name in runs else _cell(name, words.NOTHING)
            for name in systems
        ]
        rows.append(_row(one.scenario.title, cells, words.length(one.scenario)))
    return _table(["outage", *systems], rows)


def _survived(run: SystemRun, best: bool) -> str:
    share = run.total.survival
    kinds = words.band(share), "best" if best else ""
    return _cell(run.name, words.share(share), *kinds, below=words.interval(run))


def _key() -> str:
    spans = "".join(
        f'<span class="{word}">{text}</span>'
        for (_, word), text in zip(words.BANDS, _shares(), strict=True)
    )
    return f"{spans} Bold: first, or level with the first."


def _shares() -> list[str]:
    """The bands in words."""
    said = [f"from {least:.4%}".rstrip("0%").rstrip(".") + " %" for least, _ in words.BANDS[:-1]]
    return [*said, "below"]


def _caption() -> str:
    """What the colours of the strips mean, and the rest."""

    def key(texts: Iterable[str]) -> str:
        return " ".join(
            f'<span class="swatch"><i style="background:{colour}"></i>{text}</span>'
            for colour, text in zip(BAND_COLOURS, texts, strict=True)
        )

    return (
        f"Right in time: {key(_shares())}<br>Wait: {key(text for _, text in WAITS)}<br>"
        "Numbers on top are the phases above; an outage is shaded. Waits include those that ended "
        "in an error. The scale of queries is logarithmic above 1."
    )


# --- a scenario ----------------------------------------------------------------------------------


def _scenario(number: int, one: ScenarioRun) -> str:
    scenario = one.scenario
    when = f"{scenario.date} · " if scenario.date else ""
    plots = "".join(
        draw(one, shape, f"{shape.name}{number}").replace(
            "<svg", f'<svg aria-label="{escape(_alternative(one))}"', 1
        )
        for shape in (WIDE, NARROW)
    )
    return "\n".join(
        (
            f'<section class="scenario" id="{escape(scenario.name)}">',
            f"<h2>{escape(scenario.title)}</h2>",
            f'<p class="quiet">{escape(when + words.length(scenario))}</p>',
            _phase_list(one),
            _list(scenario.notes),
            f"<figure>{plots}<figcaption>{_caption()}</figcaption></figure>",
            "<h3>Numbers</h3>",
            _numbers(one),
            "<h3>Right in time, by phase</h3>",
            _by_phase(one),
            "<h3>Where answers came from during the outage</h3>",
            _served(one),
            _remarks(one),
            _sources(scenario.sources),
            "</section>",
        )
    )


def _alternative(one: ScenarioRun) -> str:
    """The picture in words, for who cannot see it."""
    found = ", ".join(f"{run.name} {words.share(run.total.survival)}" for run in one.systems)
    return f"Time line of {one.scenario.title}: {found} right in time."


def _phase_list(one: ScenarioRun) -> str:
    factor = one.scenario.compression
    whole = one.scenario.length * factor
    kind = {True: ' class="outage"', False: ""}
    items = "".join(
        f"<li{kind[phase.outage]}>"
        f'<span class="quiet">{words.clock(phase.begin * factor, whole)}</span> '
        f"<strong>{escape(phase.name)}</strong> {escape(phase.what)}</li>"
        for phase in one.scenario.phases
    )
    return f"<ol>{items}</ol>"


def _numbers(one: ScenarioRun) -> str:
    """A row for each number, a column for each system."""
    rows = []
    for column in words.COLUMNS:
        best = words.best(column, one.systems)
        cells = [
            _survived(run, run.name in best)
            if column is words.SURVIVED
            else _cell(run.name, column.text(run), "best" if run.name in best else "")
            for run in one.systems
        ]
        rows.append(_row(column.title, cells, column.meaning))
    return _table(["", *(run.name for run in one.systems)], rows)


def _by_phase(one: ScenarioRun) -> str:
    rows = []
    for number, phase in enumerate(one.scenario.phases, 1):
        found = [run.phases.get(phase.name, Numbers()).survival for run in one.systems]
        cells = [
            _cell(run.name, words.share(value), words.band(value))
            for run, value in zip(one.systems, found, strict=True)
        ]
        rows.append(_row(f"{number} {phase.name}", cells))
    return _table(["", *(run.name for run in one.systems)], rows)


def _served(one: ScenarioRun) -> str:
    places = words.sources(one)
    if not places:
        return '<p class="quiet">Not known of these systems.</p>'
    rows = []
    found = {run.name: words.during(run, one.scenario) for run in one.systems}
    for place in places:
        cells = [
            _cell(name, words.share(count[place] / count.total()) if count else words.NOTHING)
            for name, count in found.items()
        ]
        rows.append(_row(SOURCES.get(place, place), cells))
    return _table(["", *found], rows)


def _remarks(one: ScenarioRun) -> str:
    return _list(f"{run.name}: {note}" for run in one.systems for note in run.notes)


def _sources(found: Sequence[str]) -> str:
    if not found:
        return ""
    items = "".join(f"<li>{_link(source)}</li>" for source in found)
    return f"<h3>Sources</h3><ul>{items}</ul>"


def _link(source: str) -> str:
    """A source may have words behind its address; anything but http stays text."""
    address, _, rest = source.partition(" ")
    if not address.startswith(("https://", "http://")):
        return escape(source)
    tail = f" {escape(rest)}" if rest else ""
    return f'<a href="{escape(address)}" rel="noreferrer">{escape(address)}</a>{tail}'


# --- the end -------------------------------------------------------------------------------------


def _settings(result: Result) -> str:
    """Each system once; again where its settings were others in another scenario."""
    seen: dict[tuple[str, str, str], SystemRun] = {}
    for one in result.scenarios:
        for run in one.systems:
            seen.setdefault((run.name, run.version, _pairs(run)), run)
    rows = [
        _row(name, [_cell("what", run.kind), _cell("version", version), _cell("settings", pairs)])
        for (name, version, pairs), run in seen.items()
    ]
    return _table(["system", "what", "version", "settings"], rows, "stack left")


def _pairs(run: SystemRun) -> str:
    return ", ".join(f"{key} {value}" if value else key for key, value in run.settings.items())


def _again(result: Result) -> str:
    made = result.made
    facts = (
        ("seeds", words.seeds(made.seeds)),
        ("dnsguard", made.dnsguard),
        ("machine", made.machine),
        ("date", made.date),
    )
    rows = "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts if value
    )
    return f"<pre>{escape(made.command)}</pre><dl>{rows}</dl>"
