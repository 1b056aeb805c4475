"""The whole demo, once, on a machine where other programs have its ports."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

from reconciler.demo import asana
from reconciler.demo.stage import SCIM_PORT
from tests.repo import PROGRAM, short_folder


def test_the_demo_goes_through_and_leaves_nothing(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": short_folder(), "NO_COLOR": "1"}
    with ExitStack() as stack:
        for port in (asana.PORT, SCIM_PORT, 8080):
            with suppress(OSError):  # somebody has it already, which is as good
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        demo = subprocess.Popen(
            [PROGRAM, "demo"], env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with demo:
            assert demo.stdout is not None
            assert demo.stderr is not None
            shown = ""
            for line in demo.stdout:
                shown += line
                if line.startswith("Ctrl-C ends the demo"):
                    for _ in range(20):  # an impatient user, and a supervisor
                        demo.send_signal(signal.SIGINT)
                        demo.send_signal(signal.SIGTERM)
            code, errors = demo.wait(60), demo.stderr.read()
    assert (code, errors) == (0, ""), shown
    told = re.findall(r"^(?:dry run|\d+ grants) at .*?: (.*)$", shown, re.MULTILINE)
    assert told == [
        "6 missing, 1 scheduled; 6 to do",
        "1 present, 1 retrying",
        "8 present, 1 scheduled, 1 revoked; nothing to do",
    ]
    assert re.search(r"mairead-scim +mairead +scim +ended .*INC-12, the directory is stuck", shown), shown
    assert "[error" not in shown
    folder = re.search(r"^  (/\S+)/access$", shown, re.MULTILINE)
    assert folder is not None
    assert not Path(folder[1]).exists()
