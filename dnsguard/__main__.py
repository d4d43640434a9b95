"""`python -m dnsguard` is the command `dnsguard`."""

from __future__ import annotations

from dnsguard.cli.main import main

if __name__ == "__main__":
    main()
