"""Keys from a real terminal, and none from anything else."""

from __future__ import annotations

import os
import subprocess
import sys
import termios

READS_KEYS = """
import fcntl, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this terminal is ours: keys are read in the foreground only
from dnsguard.demo.keys import Keys
with Keys() as keys:
    print(keys.usable, flush=True)
    seen = ""
    while "q" not in seen:
        seen += keys.pressed()
        time.sleep(0.01)
print(seen, flush=True)
"""


def test_keys_come_one_by_one_and_the_terminal_is_put_back() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with subprocess.Popen(
        [sys.executable, "-c", READS_KEYS],
        stdin=slave, stdout=subprocess.PIPE, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert not termios.tcgetattr(slave)[3] & (termios.ICANON | termios.ECHO)
        assert termios.tcgetattr(slave)[3] & termios.ISIG
        os.write(master, b"dSq")
        assert child.stdout.readline() == "dsq\n"
        assert child.wait(30) == 0
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_without_a_terminal_there_are_no_keys() -> None:
    code = (
        "from dnsguard.demo.keys import Keys\nwith Keys() as k: print(k.usable, repr(k.pressed()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="d", capture_output=True, text=True, check=True
    )
    assert done.stdout == "False ''\n"
