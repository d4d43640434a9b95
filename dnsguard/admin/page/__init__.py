"""The status page: one document that asks for nothing outside of itself.

Everything is rendered here, once, from the state that `status` returns, so the page says the same
with and without JavaScript: a script only puts newer sections in the place of older ones. The
content security policy names the style and the script by their hashes and allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dnsguard.admin.page.sections import headline, sections

_HERE = Path(__file__).parent
_DOCUMENT = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<a class="skip" href="#zones">Skip to the zones</a>
<p id="live" class="quiet" role="status">{said}</p>
<p id="connection" role="status">As of the moment this page was loaded; reload it for news.</p>
<main>
{body}
</main>
<footer><p>The same as JSON: <a href="/api/v1/status">/api/v1/status</a> · Prometheus:
<a href="/metrics">/metrics</a> · in a terminal: <code>dnsguard status</code></p></footer>
<script>{script}</script>
</body>
</html>
"""


class Page:
    """Renders the document and its sections."""

    def __init__(self) -> None:
        self._style = (_HERE / "page.css").read_text(encoding="utf-8")
        self._script = (_HERE / "page.js").read_text(encoding="utf-8")
        self.policy = (
            f"default-src 'none'; style-src '{_hash(self._style)}'; "
            f"script-src '{_hash(self._script)}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def document(self, state: Mapping[str, Any]) -> bytes:
        """Return the page as it is now."""
        parts = sections(state)
        body = "\n".join(
            f'<{_tag(name)} id="{name}" class="part">{text}</{_tag(name)}>'
            for name, text in parts.items()
            if name not in ("title", "said")
        )
        text = _DOCUMENT.format(
            title=parts["title"], said=parts["said"], style=self._style, script=self._script,
            body=f"{body}",
        )  # fmt: skip
        return text.encode()


def _tag(name: str) -> str:
    return "header" if name == "headline" else "section"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


__all__ = ["Page", "headline", "sections"]
