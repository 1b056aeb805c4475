"""Kill what still runs when this process is gone, however it ended.

A process of its own waits for the end of its input, which the kernel brings about; until then it is told of each group
of processes that begins and ends.
"""

from __future__ import annotations

import subprocess
import sys
from typing import IO

__all__ = ["Reaper"]

_CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    groups.symmetric_difference_update([int(line)])
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Reaper:
    """Is notified of each group when it begins, and when it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs: before a program begins, so that the program is soon known to it."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", "-S", "-c", _CODE]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def notify(self, group: int) -> None:
        """Note that a group has begun, or that it has ended."""
        self.start()
        try:
            self._input.write(b"%d\n" % group)
            self._input.flush()
        except OSError:  # somebody killed it
            self.close()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    def close(self) -> None:
        """End it; what still runs is killed."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
