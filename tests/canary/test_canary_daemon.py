"""The same for the daemon: its log, its pages, and what a power cut leaves of its state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.canary.canaries import leaks, value
from tests.canary.stage import Echo, Mail, connect, settings_of, stage, state_bytes
from tests.repo import Daemon, Repo, call_cli, run_cli, running_cli
from tests.servers import eventually


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as running:
        yield running


@pytest.fixture
def staged(repo: Repo, echo: Echo) -> Iterator[Repo]:
    mail = Mail()
    stage(repo, echo, mail)
    connect(repo)
    yield repo
    mail.close()


def nothing_in(written: dict[str, str | bytes], echo: Echo) -> None:
    found = [
        f"{name}: {leak}"
        for name, content in written.items()
        for leak in leaks(content.encode() if isinstance(content, str) else content, echo.generated)
    ]
    assert not found, "\n\n".join(found)


def pages(daemon: Daemon) -> dict[str, str]:
    found = {}
    for path in ("/", "/metrics", "/healthz", "/readyz", "/people/ada", "/integrations/tool", "/nowhere"):
        found[path] = daemon.get(path)[1]
    return found


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_log_and_pages(staged: Repo, echo: Echo, log_format: str) -> None:
    echo.mode = 400
    with Daemon(staged, "-v", "--log-format", log_format) as daemon:
        assert eventually(lambda: status(staged, "tool") == "failed")
        echo.mode, echo.token_mode = 401, 400
        run_cli(staged, "retry", "ada")
        echo.fail_next(None, 500, prefix="/people")
        assert eventually(lambda: status(staged, "cloud") in ("unknown", "retrying", "failed"))
        shown = pages(daemon)
        assert daemon.terminate() == 0
        nothing_in({**shown, "log": daemon.log, **state_bytes(staged)}, echo)


def status(repo: Repo, access: str) -> str:
    result = call_cli(repo, "status", "--output", "json")
    with suppress(ValueError, AssertionError):
        return str(result.grant("ada", access)["status"])
    return "none"


def test_a_power_cut_in_mid_attempt(staged: Repo, echo: Echo) -> None:
    echo.mode = "hang"
    staged.settings(**settings_of(staged), limits={"timeout": 30})
    staged.commit()
    with Daemon(staged, "-v") as daemon:
        assert eventually(lambda: len(echo.calls("POST")) >= 2)
        daemon.kill9()
        assert "state.db-wal" in state_bytes(staged)
        nothing_in({"log": daemon.log, **state_bytes(staged)}, echo)
    echo.mode = 200
    with Daemon(staged, "-v") as daemon:
        assert eventually(lambda: "interrupted" in call_cli(staged, "history").out)
        daemon.terminate()
        nothing_in({"log": daemon.log, "history": run_cli(staged, "history").out, **state_bytes(staged)}, echo)


def test_a_token_endpoint_that_repeats_what_it_was_sent(staged: Repo, echo: Echo) -> None:
    """Beside the address that the person has to open, which needs the client's id, nothing is shown."""
    echo.token_mode = 400
    code = value("KEY")
    with Daemon(staged, "-v") as daemon:
        with running_cli(staged, "oauth", "connect", "cloud", "--output", "json", "--timeout", "1h") as connecting:
            url = json.loads(connecting.first_line())["url"]
            state = parse_qs(urlsplit(url).query)["state"][0]
            answered, page = daemon.get(f"/oauth/callback/cloud?code={quote(code, safe='')}&state={state}")
            done = connecting.ends()
        assert done.code == 1
        assert answered >= 400
        out, err = done.out.partition("\n")[2], done.err
        wrong = daemon.get(f"/oauth/callback/cloud?code={quote(code, safe='')}&state=x&error={quote(code, safe='')}")[1]
        daemon.terminate()
        nothing_in({"page": page, "wrong": wrong, "out": out, "err": err, "log": daemon.log}, echo)
        assert state not in page + err + daemon.log
        assert not any(state.encode() in content for content in state_bytes(staged).values())
