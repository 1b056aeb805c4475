"""A service that is none of ours, as a process of its own on a port of loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers import PATIENCE, ask, eventually


class Program:
    """`python -m <module> <arguments>` in a folder of its own: it answers once it is entered, and is gone once left.

    `start` runs it again on the same folder and port, after it ended by itself.
    """

    health = "/"
    """What it answers with 200 once it is up."""

    def __init__(
        self, folder: Path, port: int, module: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}"
        self.command = [sys.executable, "-m", module, *arguments]
        self.env = {**os.environ, **(env or {})}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            eventually(self._answers)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    @property
    def log(self) -> str:
        """What it wrote so far, on either stream."""
        return (self.folder / "log").read_text()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
        with suppress(OSError):
            return ask(self.url, "GET", self.health)[0] == 200
        return False
