"""The page about backups, typed: a copy beside a daemon at work, the restore, and what follows without a copy."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, eventually

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "back-up.md").read_text()


def typed(repo: Repo, backup: Path, command: str) -> None:
    """A command of the page, in the repository; the folders that it names are this test's."""
    assert command in PAGE
    command = command.replace("/backup", str(backup)).replace("gpg --import gnupg-key.asc", "true")
    subprocess.run(["bash", "-euc", command], cwd=repo.root, env=repo.environment(), check=True)


def blocks(heading: str) -> list[str]:
    under = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", under, re.MULTILINE | re.DOTALL)


def test_backup_restores_the_state(repo: Repo, accounts: AccountService, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    repo.settings(state="sqlite:///.reconciler/state.db", interval="1d")
    repo.manifest("tool", accounts.manifest())
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hooks", "data": {"who": "{{email}}"}}]})
    accounts.route("POST", "/hooks", {})
    repo.hire("ada", "tool", "hook")
    repo.write(".gitignore", ".reconciler/\n")
    repo.commit()
    with Daemon(repo):
        eventually(lambda: len(accounts.calls("POST")) == 2)
        eventually(lambda: call_cli(repo, "status", "--output", "json").grant("ada", "hook")["status"] == "done")
        eventually(lambda: repo.has("ada", "tool", "present"))
        (command,) = re.findall(r"`reconcile (state backup [^`]*)`", PAGE)
        assert call_cli(repo, *command.replace("/backup", str(backup)).split()).code == 0
    before = call_cli(repo, "status", "--output", "json").json["grants"]

    shutil.rmtree(repo.root / ".reconciler")
    lost = call_cli(repo)
    assert (lost.code, "this checkout was acted on with one before" in lost.err) == (1, True)
    (restore,) = blocks("Restore")
    typed(repo, backup, restore)
    assert call_cli(repo, "status", "--output", "json").json["grants"] == before
    assert call_cli(repo).code == 0
    assert len(accounts.calls("POST")) == 2, "nobody is made twice, no webhook runs again"

    shutil.rmtree(repo.root / ".reconciler")
    (anew,) = blocks("Without a backup")
    typed(repo, backup, anew)
    assert call_cli(repo).code == 0
    assert [call.path for call in accounts.calls("POST")][2:] == ["/hooks"], (
        "accounts are adopted, webhooks run once more"
    )


def test_a_webhook_that_the_backup_lacks_can_be_kept_from_running_again(repo: Repo, accounts: AccountService) -> None:
    repo.settings(suspend=[{"integration": "hook"}])
    repo.manifest("hook", {"execute": [{"url": f"{accounts.url}/hooks", "data": {"who": "{{email}}"}}]})
    repo.hire("ada", "hook")
    repo.commit()
    assert call_cli(repo).code == 0
    assert call_cli(repo, "accept", "ada", "hook").code == 0
    repo.settings()
    repo.commit()
    assert call_cli(repo).code == 0
    assert repo.has("ada", "hook", "done")
    assert accounts.calls("POST") == []
