"""Files that commands make begin with the line by which an editor finds their schema, where the repository has it."""

from __future__ import annotations

from tests.cli.conftest import Call
from tests.repo import Repo
from tests.servers import AccountService

HIRE = "# yaml-language-server: $schema=../.schemas/hire.json\n"


def test_added_manifests_and_imports(repo: Repo, call: Call) -> None:
    for name in ("github", "bamboohr"):
        assert call(repo, "add", name).code == 0
    plain = (repo.root / "manifests/github.yaml").read_text()
    assert "yaml-language-server" not in plain

    repo.write(".schemas/manifest.json", {})
    repo.write(".schemas/import.json", {})
    assert call(repo, "add", "github", "--as", "github-two").code == 0
    assert call(repo, "add", "bamboohr", "--as", "hr").code == 0

    made = (repo.root / "manifests/github-two.yaml").read_text()
    assert made == f"# yaml-language-server: $schema=../.schemas/manifest.json\n{plain}"
    first = (repo.root / "config/imports/hr.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../.schemas/import.json"


def test_imported_people(repo: Repo, call: Call) -> None:
    repo.write(".gitignore", "people.csv\n")
    repo.write("people.csv", "mail,first\nada@example.com,Ada\n")
    repo.write("config/imports/hr.yaml", "file: people.csv\ndata_structure: {email: mail, first_name: first}\n")
    repo.write(".schemas/hire.json", {})
    repo.commit()
    assert call(repo, "import", "hr", "--write").code == 2
    assert (repo.root / "hires/ada.yaml").read_text().startswith(f"{HIRE}email: ada@example.com\n")
    assert call(repo, "import", "hr", "--branch", "import/hr").code == 2
    assert repo.git("show", "import/hr:hires/ada.yaml").startswith(HIRE)


def test_adopted_accounts(repo: Repo, accounts: AccountService, call: Call) -> None:
    repo.manifest("saas", accounts.manifest(listing=True))
    repo.hire("bob")
    repo.write(".schemas/hire.json", {})
    repo.commit()
    accounts.add("ada@example.com")
    accounts.add("bob@example.com")
    assert call(repo, "adopt", "saas", "--all", "--write").code == 0
    assert (repo.root / "hires/ada.yaml").read_text().startswith(f"{HIRE}email: ada@example.com\n")
    assert "yaml-language-server" not in (repo.root / "hires/bob.yaml").read_text(), "which was there before"
