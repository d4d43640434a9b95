"""Load for a DNS server, and what it says of the server: `dnsguard bench`.

What is asked (`names`, `queries`), over which sockets (`udp`, `tcp`, `window`), when (`pace`,
`generator`) and what came of it (`meter`). The generator is a process of its own (`child`), so that
drawing a progress bar does not disturb what it measures; `conduct` starts it and adds what the
kernel says of the server (`usage`). `echo` is the bare echo by which the generator is measured
itself; `report` and `plot` tell people. Any DNS server will do.

This package imports `dnsguard.net`, which no other part beside the proxy does: the generator shares
the proxy's batched system calls, because with one call a query it would be the slower of the two.
"""
