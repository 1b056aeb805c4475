"""What a commit names for the machine's keys: a GnuPG home in the checkout, and a key service of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repo import Daemon, Repo, call_cli
from tests.repository.signing import PgpSigner, signed
from tests.servers import AccountService, Service, eventually

TOKEN = "hvs.the-token-of-this-machine"
SOPS = Path(sys.executable).parent


def planted(repo: Repo) -> Path:
    """A home whose settings have gpg start a program of the commit's; it leaves a mark where it runs."""
    mark = repo.root.parent / "ran"
    program = repo.write("keys/agent", f"#!/bin/sh\necho ran >> {mark}\nexit 1\n")
    program.chmod(0o755)
    repo.write("keys/gpg.conf", f"agent-program {program}\n")
    repo.write("keys/gpg-agent.conf", f"pinentry-program {program}\n")
    (repo.root / "keys").chmod(0o700)
    return mark


def secretive(repo: Repo, accounts: AccountService) -> None:
    manifest = accounts.manifest()
    repo.manifest("tool", {**manifest, "initial_data_form": [{"id": "TOKEN", "name": "Token"}]})
    repo.hire("ada", "tool")
    repo.initial_data("tool", {"TOKEN": "s3cr3t-t0ken"})


COMMANDS = [("initial-data", "check"), ("--dry-run",), (), ("validate",), ("status",)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: " ".join(words) or "a pass")
def test_a_gnupg_home_in_the_checkout_is_an_error_of_the_settings(
    repo: Repo, accounts: AccountService, arguments: tuple[str, ...]
) -> None:
    secretive(repo, accounts)
    mark = planted(repo)
    repo.settings(gnupg_home="keys")
    repo.commit()
    done = call_cli(repo, *arguments)
    assert done.code == 1
    line = (repo.root / "config/reconciler.yaml").read_text().splitlines().index("gnupg_home: keys") + 1
    said = (done.out + done.err).replace(": error: ", ": ")
    assert f"config/reconciler.yaml:{line}: gnupg_home: the GnuPG home keys is in the repo" in said
    assert not mark.exists()
    assert not accounts.calls("POST")


def test_nor_where_the_environment_names_it_or_a_link_leads_there(repo: Repo, accounts: AccountService) -> None:
    secretive(repo, accounts)
    mark = planted(repo)
    repo.commit()
    link = repo.root.parent / "link"
    link.symlink_to(repo.root / "keys")
    for home in (str(repo.root / "keys"), str(link)):
        done = call_cli(repo, "--dry-run", "--output", "json", env={"GNUPGHOME": home})
        assert done.code == 1
        assert "is in the repository" in done.grant("ada", "tool")["reason"]
        assert not mark.exists()


def test_a_branch_that_names_one_runs_nothing(repo: Repo, accounts: AccountService) -> None:
    secretive(repo, accounts)
    repo.settings()
    repo.commit()
    repo.git("checkout", "-q", "-b", "topic")
    mark = planted(repo)
    repo.settings(gnupg_home="keys")
    repo.commit()
    repo.git("checkout", "-q", "main")
    assert call_cli(repo, "--dry-run", "--rev", "topic").code == 1
    assert not mark.exists()


def test_a_daemon_goes_on_with_the_settings_before(repo: Repo, accounts: AccountService) -> None:
    secretive(repo, accounts)
    repo.settings()
    repo.commit()
    with Daemon(repo) as daemon:
        assert eventually(lambda: accounts.calls("POST"))
        mark = planted(repo)
        repo.settings(gnupg_home="keys")
        repo.commit()
        assert eventually(lambda: "gnupg_home: the GnuPG home keys is in the repository" in daemon.log)
    assert not mark.exists()


def test_signed_commits_and_a_home_in_the_checkout(repo: Repo, accounts: AccountService) -> None:
    ida = PgpSigner("Ida", repo.gnupg)
    secretive(repo, accounts)
    mark = planted(repo)
    repo.settings(gnupg_home="keys", git={"verify_signatures": True})
    signed(repo, ida)
    done = call_cli(repo)
    assert done.code == 1
    assert "gnupg_home: the GnuPG home keys is in the repository" in done.err
    assert not mark.exists()


@pytest.fixture
def vault(repo: Repo, accounts: AccountService, service: Service) -> dict[str, Any]:
    """Initial data whose key a Vault at `service` has; the machine has a token for its own Vault, and `sops`."""
    if not (SOPS / "sops").exists():
        pytest.skip("the sops program is not installed")
    secretive(repo, accounts)
    shutil.rmtree(repo.root / "config/initial_data")
    entry = {
        "vault_address": f"http://127.0.0.1:{service.port}",
        "engine_path": "transit",
        "key_name": "k",
        "created_at": "2026-11-01T00:00:00Z",
        "enc": "vault:v1:AAAA",
    }
    content = {
        "TOKEN": f"ENC[AES256_GCM,data:AAAA,iv:{'A' * 43}=,tag:{'A' * 22}==,type:str]",
        "sops": {"hc_vault": [entry], "lastmodified": "2026-11-01T00:00:00Z", "mac": "ENC[x]", "version": "3.11.0"},
    }
    repo.write("config/initial_data/tool.sops.yaml", yaml.safe_dump(content))
    return content


def machine() -> dict[str, str]:
    return {"VAULT_TOKEN": TOKEN, "PATH": f"{SOPS}:{os.environ['PATH']}"}


def asked(service: Service) -> list[Any]:
    return [call for call in service.calls() if TOKEN in json.dumps(dict(call.headers))]


@pytest.mark.usefixtures("vault")
def test_a_key_service_that_is_not_allowed_is_not_asked(repo: Repo, service: Service) -> None:
    repo.commit()
    for arguments in (["--dry-run", "--output", "json"], ["--output", "json"]):
        done = call_cli(repo, *arguments, env=machine())
        assert done.code == 1
        assert (
            f"host 127.0.0.1:{service.port} is not allowed: add it to allowed_hosts"
            in done.grant("ada", "tool")["reason"]
        )
    done = call_cli(repo, "initial-data", "check", env=machine())
    assert done.code == 1
    assert "is not allowed" in done.out
    assert not service.calls()


@pytest.mark.usefixtures("vault")
def test_committed_key_service_is_listed_by_validate_and_diff(repo: Repo, service: Service) -> None:
    content = (repo.root / "config/initial_data/tool.sops.yaml").read_bytes()
    repo.remove("config/initial_data/tool.sops.yaml")
    before = repo.commit()
    repo.write("config/initial_data/tool.sops.yaml", content)
    repo.commit()
    host, file = f"127.0.0.1:{service.port}", "config/initial_data/tool.sops.yaml"
    done = call_cli(repo, "validate", "--output", "json")
    assert {"host": host, "files": [file], "allowed": False} in done.json["hosts"]
    assert [each["message"] for each in done.json["problems"] if each["file"] == file] == [
        f"its key service: host {host} is not allowed: add it to allowed_hosts in config/reconciler.yaml"
    ]
    assert done.code == 1
    assert call_cli(repo, "diff", before, "--output", "json").json["hosts"]["added"] == [host]


@pytest.mark.usefixtures("vault")
def test_allowed_key_service_is_asked(repo: Repo, service: Service, accounts: AccountService) -> None:
    repo.settings(allowed_hosts=[f"127.0.0.1:{service.port}", accounts.host])
    repo.commit()
    done = call_cli(repo, "--dry-run", "--output", "json", env=machine())
    assert "the `sops` program refuses it" in done.grant("ada", "tool")["reason"]
    assert asked(service)


@pytest.mark.usefixtures("vault")
def test_a_branch_cannot_allow_it(repo: Repo, service: Service, accounts: AccountService) -> None:
    repo.commit()
    repo.git("checkout", "-q", "-b", "topic")
    repo.settings(allowed_hosts=[f"127.0.0.1:{service.port}", accounts.host])
    repo.commit()
    repo.git("checkout", "-q", "main")
    call_cli(repo, "--dry-run", "--rev", "topic", env=machine())
    assert not service.calls()
