"""What an idle process of the defaults takes in memory, and after each thing that is asked of it.

With the admin address and a store, as it is deployed: when it has been ready for two seconds, after
the first scrape of `/metrics`, after the first look at the page. Medians of several processes.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HOST = "127.0.0.1"
STEPS = ("ready", "scraped", "looked at")


def resident(pid: int) -> tuple[float, float]:
    """Return RSS and PSS in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE))
    return int(found["Rss"]) / 1024, int(found["Pss"]) / 1024


def one() -> tuple[float, list[tuple[float, float]]]:
    """Run one process; return the milliseconds until it was ready, and the memory at each step."""
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen(
            [sys.executable, "-m", "dnsguard", "serve", "--listen", f"{HOST}:0",
             "--admin", f"{HOST}:0", "--upstream", "192.0.2.53", "--state-dir", state],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            said = re.search(r"ready in (\d+) ms.*admin (http://[^;]+);", line)
            assert said is not None, line
            time.sleep(2.0)
            found = [resident(process.pid)]
            for path in ("/metrics", "/"):
                urllib.request.urlopen(said[2] + path).read()
                found.append(resident(process.pid))
            return float(said[1]), found
        finally:
            process.terminate()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory of idle processes.")
    parser.add_argument("--processes", type=int, default=5)
    given = parser.parse_args()
    ready, each = zip(*(one() for _ in range(given.processes)), strict=True)
    print(f"ready after {statistics.median(ready):.0f} ms")
    for number, step in enumerate(STEPS):
        rss, pss = (statistics.median(row[number][kind] for row in each) for kind in (0, 1))
        print(f"{step:<10} RSS {rss:.1f} MiB ({rss * 1.048576:.1f} MB)  PSS {pss:.1f} MiB")


if __name__ == "__main__":
    main()
