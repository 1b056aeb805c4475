"""Ready manifests as their users take them, and a pass with them."""

from __future__ import annotations

from tests.repo import Repo, call_cli


def taken(repo: Repo, *names: str, host: str, url: str, scheme: str = "https") -> None:
    """Ready manifests in a repository that revokes, with a server's own address in them."""
    for name in names:
        added = call_cli(repo, "add", name)
        assert added.code == 0, added.err
        file = repo.root / "manifests" / f"{name}.yaml"
        assert f"{scheme}://{host}" in file.read_text()
        file.write_text(file.read_text().replace(f"{scheme}://{host}", url))


def passed(repo: Repo) -> dict[str, str]:
    """The statuses after a pass over what is committed now; after it there is nothing left to do."""
    repo.commit()
    done = call_cli(repo, "--output", "json")
    assert done.code == 0, done.out + done.err
    again = call_cli(repo, "--dry-run", "--output", "json", "--detailed-exitcode")
    assert again.code == 0, again.out
    return {grant["access"]: grant["status"] for grant in done.json["grants"]}
