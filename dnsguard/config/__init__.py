"""Settings: flags, environment, file and defaults become one frozen value, or all mistakes at once.

`keys` is the table of what can be set, `units` and `addresses` read and show values, `yaml_file`
reads and writes files (and is imported only when there is one), `loading` puts the layers
together. Knows of core only its policy; opens no socket.
"""

from __future__ import annotations

from dnsguard.config.addresses import Address, Network
from dnsguard.config.keys import Given, Origin
from dnsguard.config.loading import Effective, Settings, load, others, resolv_conf, store_dir

__all__ = [
    "Address",
    "Effective",
    "Given",
    "Network",
    "Origin",
    "Settings",
    "load",
    "others",
    "resolv_conf",
    "store_dir",
]
