"""`dnsguard check`: prints the settings that hold and their origins, or every mistake in them.

The output is a settings file: given back with `--config` it means the same. Opens no socket; of the
machine it reads the environment, the file and, for want of an upstream, resolv.conf.
"""

from __future__ import annotations

from typing import Any

import click

from dnsguard import __version__
from dnsguard.cli.options import load_settings, serve_options
from dnsguard.config import Settings


def render(settings: Settings) -> str:
    """The effective settings as YAML, a comment on each saying where it comes from."""
    from dnsguard.config import yaml_file

    return yaml_file.write(
        {name: (value, str(origin)) for name, (value, origin) in settings.effective.items()}
    )


@click.command(name="check")
@serve_options
def command(**options: Any) -> None:
    """Print the effective settings as YAML, or every mistake.

    Takes the options of `serve`, the same environment and the same file. Exits with 0 if a server
    would start with them, with 2 if not.
    """
    text = render(load_settings(options))
    click.echo(f"# dnsguard {__version__}: effective settings\n{text}", nl=False)
