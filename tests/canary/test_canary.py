"""No piece of a secret in anything that the program writes, whatever happens to it on the way."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from reconciler.cli import run
from tests.canary.canaries import core, leaks, value
from tests.canary.stage import Echo, Mail, as_text, connect, settings_of, stage, state_bytes
from tests.repo import GnupgHome, Repo


class Bug(Exception):
    """What nobody expected."""


@dataclass
class Scene:
    """A staged repository, and everything that was written since."""

    repo: Repo
    echo: Echo
    mail: Mail
    patch: pytest.MonkeyPatch
    written: dict[str, bytes] = field(default_factory=dict)

    def call(self, *arguments: str, given: str = "") -> int:
        """`reconcile ARGUMENTS` in this process, with both of its streams kept."""
        out, err = io.StringIO(), io.StringIO()
        self.patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = run(arguments)
            except Bug:
                sys.excepthook(*sys.exc_info())
                code = 70
        name = " ".join(arguments) or "reconcile"
        self.keep(name, (out.getvalue() + err.getvalue()).encode())
        return code

    def output(self, *arguments: str) -> str:
        """What a command writes."""
        self.call(*arguments)
        return [*self.written.values()][-1].decode()

    def keep(self, name: str, content: bytes) -> None:
        self.written[f"{len(self.written)} {name}"] = content

    def look_everywhere(self) -> None:
        """Every command that shows something, in every format, and every file of the state."""
        for output in ("table", "json", "markdown", "csv"):
            self.call("status", "--output", output)
            self.call("history", "--output", output)
        for output in ("table", "json", "markdown"):
            for access in ("tool", "cloud"):
                self.call("explain", "ada", access, "--output", output)
        self.call("validate", "--output", "json")
        self.call("initial-data", "check")
        self.call("review", "start", "2026-Q4")
        for file in (self.repo.root / "config/reviews").rglob("*.yaml"):
            self.keep(f"review: {file.name}", file.read_bytes())
        for name, content in state_bytes(self.repo).items():
            self.keep(f"state: {name}", content)
        for content in [*self.echo.webhooks, *self.mail.alerts]:
            self.keep("alert", content)

    def nothing_leaked(self) -> None:
        found = [
            f"{name}: {leak}" for name, content in self.written.items() for leak in leaks(content, self.echo.generated)
        ]
        assert not found, "\n\n".join(found)


@pytest.fixture
def scene(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    for name, content in repo.environment().items():
        monkeypatch.setenv(name, content)
    monkeypatch.chdir(repo.root)
    mail = Mail()
    with Echo() as echo:
        yield Scene(repo, echo, mail, monkeypatch)
    mail.close()
    structlog.reset_defaults()


def success(scene: Scene) -> None:
    scene.call("--output", "json", "-v")
    scene.call("run", "ada", "tool", "-v", "--log-format", "json")
    scene.call("--output", "markdown")


def refused(status: int) -> Callable[[Scene], None]:
    def path(scene: Scene) -> None:
        scene.echo.mode = status
        scene.call("--output", "table", "-v")
        scene.call("--output", "csv", "-v", "--log-format", "json")
        scene.call("run", "ada", "tool")

    path.__name__ = f"answered_{status}"
    return path


def failing_checks(scene: Scene) -> None:
    scene.echo.fail_next(None, 500, prefix="/people")
    scene.echo.mode = 418
    for _ in range(4):
        scene.call("--output", "json")


def timeout(scene: Scene) -> None:
    scene.repo.settings(**settings_of(scene.repo), limits={"timeout": 0.6})
    scene.repo.commit()
    scene.echo.mode = "hang"
    scene.call("-v")
    scene.call()


def redirect(scene: Scene) -> None:
    scene.echo.mode = "redirect"
    scene.call("-v")
    scene.call()


def no_http(scene: Scene) -> None:
    scene.echo.mode = "garbage"
    scene.call("-v")
    scene.call()


def nobody_listens(scene: Scene) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    restage(scene, exists=None, execute=[{"url": f"http://127.0.0.1:{port}/{{{{KEY}}}}"}])
    scene.call("-v")
    scene.call()


def tls_error(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": f"https://{scene.echo.host}/{{{{KEY}}}}?{{{{KEY}}}}"}])
    scene.call("-v")
    scene.call()


def bad_url(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": "{{BASE}}/x"}])
    scene.call("-v")
    scene.call("--dry-run", "--output", "json")


def secret_in_a_host(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": "https://{{BASE}}.example.com/x"}])
    scene.call("-v")
    scene.call("--dry-run", "--output", "json")


def secret_before_a_host(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": "https://{{USER}}:{{KEY}}@example.com/x"}])
    scene.call("-v")
    scene.call("--dry-run", "--output", "json")


def template_error(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": f"{scene.echo.url}/{{{{KEY}}}}/{{{{NOBODY}}}}"}])
    scene.call("-v")


def line_break_in_a_header(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": f"{scene.echo.url}/x", "headers": {"X-Key": "{{PEM}}"}}])
    scene.call("-v")


def secret_as_the_name_of_a_header(scene: Scene) -> None:
    restage(scene, exists=None, execute=[{"url": f"{scene.echo.url}/x", "headers": {"{{KEY}}": "x"}}])
    scene.call("-v")


def condition_that_does_not_hold(scene: Scene) -> None:
    condition = {"response_notation": "headers.Authorization", "value": "{{KEY}}"}
    restage(scene, execute=[{"url": f"{scene.echo.url}/x", "continue_if": condition, "data": {"k": "{{KEY}}"}}])
    scene.call("-v")
    scene.call()


def response_without_what_is_stored(scene: Scene) -> None:
    restage(scene, execute=[{"url": f"{scene.echo.url}/{{{{KEY}}}}", "store_data": {"X": "no.such"}}])
    scene.call("-v")
    scene.call()


def mail_server_that_refuses(scene: Scene) -> None:
    scene.call("-v")


def mail_server_that_refuses_the_login(scene: Scene) -> None:
    scene.mail.refuse_login = True
    scene.call("-v")


def texts_refused(scene: Scene) -> None:
    scene.echo.fail_next(None, 400, prefix="/twilio")
    scene.echo.on(lambda connection, received: connection.answer(echoing(received)), times=None, prefix="/twilio")
    scene.call("-v")


def echoing(received: Any) -> Any:
    from tests.servers import Reply

    return Reply(400, {"message": f"{received.headers['Authorization']} {received.body.decode()}"})


def options_that_cannot_be_had(scene: Scene) -> None:
    scene.echo.options_mode = 500
    scene.call("-v")
    for output in ("table", "json", "markdown"):
        scene.call("options", "tool", "TEAM", "--output", output)


def options_that_repeat_the_secrets(scene: Scene) -> None:
    for output in ("table", "json", "markdown"):
        scene.call("options", "tool", "TEAM", "--output", output)


def value_that_is_no_option(scene: Scene) -> None:
    scene.repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}}, "cloud")
    scene.repo.commit()
    scene.call("--output", "json")


def refresh_refused(scene: Scene) -> None:
    connect(scene.repo, expired=True)
    scene.echo.token_mode = 400
    scene.call("-v")
    scene.call("--dry-run")


def refresh_broken(scene: Scene) -> None:
    connect(scene.repo, expired=True)
    scene.echo.token_mode = 502
    scene.call("-v")


def token_refused(scene: Scene) -> None:
    scene.echo.fail_next(None, 401, prefix="/cloud")
    scene.echo.token_mode = 403
    scene.call("-v")


def dry_runs(scene: Scene) -> None:
    for output in ("table", "json", "markdown", "csv"):
        scene.call("--dry-run", "-v", "--output", output)
    scene.repo.git("checkout", "-q", "-b", "branch")
    restage(scene, execute=[{"url": "https://elsewhere.example.com/{{KEY}}"}])
    scene.repo.git("checkout", "-q", "main")
    scene.call("--dry-run", "--rev", "branch", "--output", "json")
    for output in ("table", "json", "markdown"):
        scene.call("diff", "main", "branch", "--output", output)


def no_key_to_open_it(scene: Scene) -> None:
    scene.call()
    other = GnupgHome()
    scene.patch.setenv("GNUPGHOME", other.path)
    scene.call("-v")
    scene.call("initial-data", "check", "--output", "json")
    other.close()


BROKEN = [
    f"TOKEN: [{value('TOKEN')}",
    value("TOKEN"),
    f"- {value('KEY')}",
    f"{value('KEY')}: {{a: b}}",
    f"{value('KEY')}: 1",
    f"{value('KEY')}: 1\n{value('KEY')}: 2",
    *(
        f"TOKEN: {sign}{core('TOKEN')}"
        for sign in ("*", "&", "!", "!!", "@", "%", "`", "'", '"', "|", "? ", ": ", "- ")
    ),
    f"TOKEN: !{core('TOKEN')} x",
    f"TOKEN: {{a: {value('TOKEN')}}}",
    f"TOKEN: {core('TOKEN')}\0",
    f"{{TOKEN: 1, {core('TOKEN')}",
    f"%{core('TOKEN')}\n---\n",
    f"<<: {core('TOKEN')}",
    f"<<: *{core('TOKEN')}",
]


def initial_data_that_is_broken_inside(scene: Scene) -> None:
    assert scene.repo.gnupg is not None
    for text in BROKEN:
        raw = scene.repo.gnupg.encrypt(text.encode())
        scene.repo.write("config/initial_data/tool.yaml.gpg", raw)
        scene.repo.commit()
        scene.call("-v", "--log-format", "json")
        scene.call("initial-data", "check")


def initial_data_typed_wrongly(scene: Scene) -> None:
    for given in BROKEN:
        assert scene.call("initial-data", "set", "tool", given=given) != 0
    assert not scene.call("initial-data", "set", "tool", "--output", "json", given=as_text({"TOKEN": value("TOKEN")}))


def what_nobody_expected(scene: Scene) -> None:
    """A bug, with a secret in the exception and in the locals of every frame."""
    from reconciler.engine.apply import executor as attempt

    def broken(_call: Any, scope: Any, *_rest: Any, **_named: Any) -> Any:
        secret = scope.look_up("KEY").value.reveal()
        raise Bug(f"no {secret!r}", {"also": secret})

    scene.patch.setattr(attempt, "render", broken)
    assert scene.call("-v") == 70
    assert "'also': '***'" in scene.written["0 -v"].decode()
    scene.call("-v", "--log-format", "json")


def crash_before_the_notification(scene: Scene) -> None:
    """Another process sends what was left behind, and never saw the password being made."""
    from reconciler.notify.delivery import Notifications

    async def crash(*_arguments: Any) -> None:
        raise Bug

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Notifications, "deliver", crash)
        assert scene.call() == 70
    scene.call()
    assert "notification_failed" in scene.output("history")


def crash_between_two_requests(scene: Scene) -> None:
    """Another process goes on with the password that the account was made with, and the service repeats it."""
    from reconciler.engine.apply.executor import Executor

    sent: list[object] = []
    original = Executor._deliver

    async def crash(self: Executor, *arguments: Any) -> Any:
        sent.append(arguments)
        if len(sent) > 2:
            raise Bug
        return await original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Executor, "_deliver", crash)
        assert scene.call() == 70
    scene.echo.mode = "exists"
    scene.call("--output", "json")
    assert "/form" in str(scene.echo.lines())


PATHS = [
    crash_before_the_notification,
    crash_between_two_requests,
    success,
    refused(400),
    refused(401),
    refused(429),
    refused(503),
    failing_checks,
    timeout,
    redirect,
    no_http,
    nobody_listens,
    tls_error,
    bad_url,
    secret_in_a_host,
    secret_before_a_host,
    template_error,
    line_break_in_a_header,
    secret_as_the_name_of_a_header,
    condition_that_does_not_hold,
    response_without_what_is_stored,
    mail_server_that_refuses,
    mail_server_that_refuses_the_login,
    texts_refused,
    options_that_cannot_be_had,
    options_that_repeat_the_secrets,
    value_that_is_no_option,
    refresh_refused,
    refresh_broken,
    token_refused,
    dry_runs,
    no_key_to_open_it,
    initial_data_that_is_broken_inside,
    initial_data_typed_wrongly,
    what_nobody_expected,
]


def restage(scene: Scene, **changes: Any) -> None:
    """The same with parts of the tool's manifest changed; None takes one out."""
    stage(scene.repo, scene.echo, scene.mail, **changes)
    manifest = scene.repo.root / "manifests/tool.yaml"
    if None in changes.values():
        import yaml

        content = yaml.safe_load(manifest.read_text())
        scene.repo.manifest("tool", {name: part for name, part in content.items() if part is not None})
        scene.repo.commit()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_canary_secret_is_in_no_output(scene: Scene, path: Callable[[Scene], None]) -> None:
    stage(scene.repo, scene.echo, scene.mail)
    connect(scene.repo)
    path(scene)
    scene.look_everywhere()
    scene.nothing_leaked()


def test_values_that_are_not_secret_are_shown(scene: Scene) -> None:
    """A host, and a short value everywhere but where it was put in.

    A field with `secret: false` in a URL too, but only while no request puts it into a header.

    See docs/design/rules.md, "Secrets".
    """
    url = "{{HOST}}/{{OPEN}}/{{SHORT}}/admin/{{LONG}}"
    fields = [{"id": name, "name": name} for name in ("HOST", "SHORT", "LONG")]
    manifest = {
        "execute": [{"url": url, "headers": {"X-Key": "{{HEADER}}"}, "data": {"org": "{{ORG}} {{HEADER}}"}}],
        "initial_data_form": [
            *fields,
            *({"id": name, "name": name, "secret": False} for name in ("OPEN", "ORG", "HEADER")),
        ],
    }
    scene.repo.settings(allowed_hosts=["tool.example.com"])
    scene.repo.manifest("tool", manifest)
    values = {
        "HOST": "https://tool.example.com",
        "SHORT": "admin",
        "LONG": value("KEY"),
        "OPEN": "shown-in-a-url",
        "ORG": "to-be-seen",
        "HEADER": "not-to-see",
    }
    scene.repo.initial_data("tool", values)
    scene.repo.hire("ada", "tool")
    scene.repo.commit()
    shown = scene.output("--dry-run", "--output", "json")
    assert '"url": "https://tool.example.com/shown-in-a-url/***/admin/***"' in shown
    assert '"org": "to-be-seen ***"' in shown


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_every_log_line_is_redacted(log_format: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Our own lines, libraries' lines, exceptions in both, and what asyncio says of tasks that nobody waited for."""
    from reconciler.cli.options import SharedOptions
    from reconciler.cli.output.logs import set_up, unexpected

    secret = value("KEY")
    set_up(SharedOptions(verbose=True, log_format=log_format)).learn([secret])
    log, library = structlog.get_logger(), logging.getLogger("some.library")
    error = KeyError(secret)
    log.error(secret, about={"deep": [secret.encode(), error]}, error=error, **{secret: 1})
    library.warning("%s and %r", secret, error)
    library.warning("cannot be formatted %d", secret)
    try:
        raise RuntimeError(secret) from error
    except RuntimeError:
        log.exception("caught", what=secret)
        library.exception("caught %s", secret)
        unexpected(*sys.exc_info())

    async def forgotten() -> None:
        async def fail() -> None:
            raise RuntimeError(secret)

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(forgotten())
    out, err = capfd.readouterr()
    structlog.reset_defaults()
    assert list(leaks((out + err).encode())) == []
    assert "never retrieved" in err
    assert err.count("***") >= 10


def test_before_a_secret_can_be_known_an_exceptions_text_is_left_out(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from reconciler.cli.output import logs

    monkeypatch.setattr(logs, "_redactor", None)
    try:
        raise RuntimeError(value("KEY"))
    except RuntimeError:
        logs.unexpected(*sys.exc_info())
    err = capfd.readouterr().err
    assert list(leaks(err.encode())) == []
    assert "RuntimeError" in err
    assert "test_canary.py" in err
