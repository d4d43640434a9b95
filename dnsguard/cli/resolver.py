"""`dnsguard serve` as the child of `dnsguard node run`: `-m dnsguard.cli.resolver PARENT ...`.

It ends with its parent, however that ends: a resolver that nobody watches would hold the port of
the next one. Not a command; whoever wants a server calls `dnsguard serve`.
"""

from __future__ import annotations

import sys

from dnsguard.cli.main import main
from dnsguard.net.parent import end_with

if __name__ == "__main__":
    parent = int(sys.argv.pop(1))
    if not end_with(parent):
        sys.exit(1)
    sys.argv.insert(1, "serve")
    main()
