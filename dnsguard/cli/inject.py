"""`dnsguard inject`: manifests in, the same manifests with the sidecar out.

What changes, what is skipped and why is said on stderr, so that stdout can go straight to kubectl.
One mistake, and nothing is written at all: half of a rollout is worse than none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnsguard.cli.manifests import FILES, Report, rewrite
from dnsguard.errors import ConfigError, Mistake
from dnsguard.kube.profile import Profile


def check_settings(settings: Any, upstreams: Any) -> list[Mistake]:
    """Why `dnsguard serve` would not start with these, found before a pod has to."""
    from dnsguard.config import Given, Origin, load
    from dnsguard.config.keys import ROOT_UPSTREAMS

    origin = Origin("flag", "--set")
    given = [Given(ROOT_UPSTREAMS, text, Origin("flag", "--upstream")) for text in upstreams]
    for text in settings:
        key, _, value = text.partition("=")
        given.append(Given(key, value, origin))
    try:
        load(tuple(given), {}, None)
    except ConfigError as error:
        return list(error.mistakes)
    return []


def read_profile(path: str | None, given: dict[str, Any]) -> Profile:
    """The values file with the command line on top. Raises ConfigError."""
    from dnsguard.kube.profile import read_values

    profile = read_values(read_yaml(path), str(path)) if path is not None else Profile()
    flags = {key: value for key, value in given.items() if value not in (None, (), "")}
    flags = {
        key: list(value) if isinstance(value, tuple) else value for key, value in flags.items()
    }
    return read_values(flags, "command line", profile)


def read_yaml(path: str) -> Any:
    """A values file's content. Raises ConfigError."""
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError([Mistake("values", path, f"a readable YAML file ({why})")]) from None


@click.command(name="inject")
@FILES
@click.option(
    "--upstream",
    multiple=True,
    metavar="URL",
    help="Address of the cluster's DNS Service, such as 10.96.0.10 (repeatable).",
)
@click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    default="",
    help="Namespace of manifests that name none: the search list begins with it.",
)
@click.option("--image", metavar="IMAGE", help="The sidecar's image.")
@click.option("--cluster-domain", metavar="DOMAIN", help="[cluster.local]")
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="DOMAIN",
    help="A domain that the nodes' resolv.conf adds to every pod's (repeatable).",
)
@click.option(
    "--classic", is_flag=True, help="An ordinary container, for clusters before Kubernetes 1.29."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the sidecar, such as stale.max_age=1d (repeatable).",
)
@click.option(
    "--values", metavar="FILE", help="YAML; the keys are those of the chart's `injection`."
)
@click.option("--dry-run", is_flag=True, help="Print the difference instead of the manifests.")
def command(
    files: tuple[str, ...], upstream: tuple[str, ...], namespace: str, image: str | None,
    cluster_domain: str | None, searches: tuple[str, ...], classic: bool,
    assignments: tuple[str, ...], values: str | None, dry_run: bool,
) -> None:  # fmt: skip
    """Put dnsguard beside every workload in manifests: YAML or JSON in, the same out.

    \b
    dnsguard inject -f shop.yaml --upstream 10.96.0.10 | kubectl apply -f -

    Everything with a pod template, in files with many documents and in lists too; what is not
    changed stays as it is, byte for byte. `dnsguard uninject` takes it out again.
    """
    from dnsguard.kube import inject
    from dnsguard.kube.profile import NAMESPACE

    profile = read_profile(
        values,
        {"upstream": upstream, "image": image, "clusterDomain": cluster_domain,
         "searches": searches, "sidecar": "classic" if classic else None,
         "config": "\n".join(assignments)},
    )  # fmt: skip

    def change(template: Any, found: str, where: str, report: Report) -> bool:
        annotations = (template.get("metadata") or {}).get("annotations") or {}
        known = found or annotations.get(NAMESPACE) or namespace
        outcome = inject.plan(template, known, profile, where, check_settings)
        inject.apply(template, outcome.patch)
        report.say("injected" if outcome.injected else "skipped", where, outcome.reason)
        for warning in outcome.warnings:
            report.say("warning", where, warning)
        return outcome.injected

    rewrite(files, change, dry_run)
