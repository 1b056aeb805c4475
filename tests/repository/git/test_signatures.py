"""Signatures of real keys, verified by git, gpg and ssh-keygen; and every way to have a commit say who is trusted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.model.errors import RepositoryError
from reconciler.model.revision_status import Untrusted
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.signatures import first_untrusted, signer
from tests.repo import Repo
from tests.repository.signing import PgpSigner, SshSigner, signed, unsigned


class Pinned(Repo):
    """A repository whose history up to `base` is vouched for."""

    base = ""


@pytest.fixture(scope="module")
def ida() -> Iterator[PgpSigner]:
    """Her home is the one that the checkout is verified with; her own key is ultimately trusted there."""
    made = PgpSigner("Ida")
    yield made
    made.close()


@pytest.fixture(scope="module")
def eve() -> Iterator[PgpSigner]:
    made = PgpSigner("Eve")
    yield made
    made.close()


@pytest.fixture(scope="module")
def sam() -> Iterator[SshSigner]:
    made = SshSigner.make("Sam")
    yield made
    made.close()


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pinned:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    made = Pinned(tmp_path / "repo")
    made.write("hires/ada.yaml", "x: 1\n")
    made.base = made.commit("the pinned one")
    return made


def look(repo: Pinned, by: PgpSigner, base: str | None = "") -> Untrusted | None:
    start = repo.base if base == "" else base
    return first_untrusted(Checkout.open(repo.root), start, repo.git("rev-parse", "HEAD"), by.home.path)


def allow(repo: Pinned, *lines: str) -> Path:
    file = repo.root.parent / "allowed_signers"
    file.write_text("".join(lines))
    repo.git("config", "gpg.ssh.allowedSignersFile", str(file))
    return file


def test_no_new_commits_is_trusted(repo: Pinned, ida: PgpSigner) -> None:
    assert look(repo, ida) is None


def test_an_openpgp_key_that_is_trusted(repo: Pinned, ida: PgpSigner) -> None:
    signed(repo, ida)
    signed(repo, ida)
    assert look(repo, ida) is None


def test_an_ssh_key_among_the_allowed_signers(repo: Pinned, ida: PgpSigner, sam: SshSigner) -> None:
    allow(repo, sam.allowed())
    signed(repo, sam)
    assert look(repo, ida) is None


def test_signer_names_the_key_owner(repo: Pinned, ida: PgpSigner, eve: PgpSigner, sam: SshSigner) -> None:
    allow(repo, sam.allowed())
    checkout = Checkout.open(repo.root)
    assert signer(checkout, repo.base, ida.home.path) is None, "it is not signed"
    by_ida = signed(repo, ida)
    assert signer(checkout, by_ida, ida.home.path) == ida.home.uid
    by_eve = signed(repo, eve)
    assert signer(checkout, by_eve, ida.home.path) is None, "nobody here knows her key"
    by_sam = signed(repo, sam)
    assert signer(checkout, by_sam, ida.home.path) is not None
    assert signer(checkout, "0" * 40, ida.home.path) is None, "no such commit"


def test_signer_is_known_where_git_is_set_to_show_signatures(repo: Pinned, ida: PgpSigner) -> None:
    repo.git("config", "log.showSignature", "true")
    assert signer(Checkout.open(repo.root), signed(repo, ida), ida.home.path) == ida.home.uid


def test_unsigned_commit_is_named_with_author(repo: Pinned, ida: PgpSigner) -> None:
    signed(repo, ida)
    bad = unsigned(repo)
    head = signed(repo, ida)
    found = look(repo, ida)
    assert found == Untrusted(head, bad, "Eve <eve@example.com>", "it is not signed")
    assert str(found) == (
        f"commit {head[:12]} is not accepted: commit {bad[:12]} by Eve <eve@example.com> on the way to it: "
        "it is not signed"
    )


def test_a_merge_answers_for_all_that_it_brings(repo: Pinned, ida: PgpSigner) -> None:
    repo.git("checkout", "-q", "-b", "feature")
    bad = unsigned(repo)
    repo.git("checkout", "-q", "main")
    signed(repo, ida)
    signed(repo, ida, "merge", "merge", "--quiet", "--no-ff", "feature")
    found = look(repo, ida)
    assert found is not None
    assert found.commit == bad


def test_a_merge_of_signed_commits_that_is_signed_itself(repo: Pinned, ida: PgpSigner) -> None:
    repo.git("checkout", "-q", "-b", "feature")
    signed(repo, ida)
    repo.git("checkout", "-q", "main")
    signed(repo, ida)
    signed(repo, ida, "merge", "merge", "--quiet", "--no-ff", "feature")
    assert look(repo, ida) is None


def test_without_a_pinned_commit_the_whole_history_counts(repo: Pinned, ida: PgpSigner) -> None:
    signed(repo, ida)
    found = look(repo, ida, None)
    assert found is not None
    assert found.commit == repo.base


def nobodys(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    signed(repo, eve)


def merely_imported(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    bob = PgpSigner("Bob")  # nobody knows Eve's key, before this and after it
    try:
        signed(repo, bob)
        ida.trust(bob, level=1)
    finally:
        bob.close()


def altered(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    head = signed(repo, ida)
    raw = subprocess.run(["git", "cat-file", "commit", head], cwd=repo.root, check=True, capture_output=True).stdout
    forged = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=repo.root,
        check=True,
        capture_output=True,
        input=raw.replace(b"signed", b"forged"),
    ).stdout.decode()
    repo.git("update-ref", "refs/heads/main", forged.strip())


def x509(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    head = signed(repo, ida)
    raw = subprocess.run(["git", "cat-file", "commit", head], cwd=repo.root, check=True, capture_output=True).stdout
    forged = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=repo.root,
        check=True,
        capture_output=True,
        input=raw.replace(b"PGP SIGNATURE", b"SIGNED MESSAGE"),
    ).stdout.decode()
    repo.git("update-ref", "refs/heads/main", forged.strip())


def another_history(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    repo.git("checkout", "-q", "--orphan", "other")
    signed(repo, ida)
    repo.git("branch", "-f", "main")


def moved_back(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    repo.base = signed(repo, ida)
    repo.git("reset", "-q", "--hard", "HEAD~1")


def replaced(repo: Pinned, ida: PgpSigner, eve: PgpSigner) -> None:
    good = signed(repo, ida)
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("replace", unsigned(repo), good)


REFUSED: dict[str, tuple[Callable[[Pinned, PgpSigner, PgpSigner], None], str]] = {
    "a key that nobody knows": (nobodys, "not in the GnuPG home"),
    "altered": (altered, "altered after it was signed"),
    "x509": (x509, "neither OpenPGP's nor SSH's"),
    "another history": (another_history, "history was rewritten"),
    "moved back": (moved_back, "history was rewritten"),
    "replaced by a signed one": (replaced, "it is not signed"),
    "a key that is known and not trusted": (merely_imported, "known and not trusted: certify it"),
}


@pytest.mark.parametrize(("how", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    repo: Pinned, ida: PgpSigner, eve: PgpSigner, how: Callable[[Pinned, PgpSigner, PgpSigner], None], why: str
) -> None:
    how(repo, ida, eve)
    found = look(repo, ida)
    assert found is not None
    assert why in found.why
    assert "\n" not in str(found)


def test_key_certified_by_a_trusted_key(repo: Pinned, ida: PgpSigner) -> None:
    bob = PgpSigner("Bob")
    try:
        signed(repo, bob)
        ida.trust(bob)
        assert look(repo, ida) is None
    finally:
        bob.close()


def test_a_key_that_has_expired(repo: Pinned, ida: PgpSigner) -> None:
    bob = PgpSigner("Bob")
    try:
        signed(repo, bob)
        bob.gpg("--quick-set-expire", bob.home.fingerprint, "seconds=1")
        ida.trust(bob)
        found = first_untrusted(
            Checkout.open(repo.root),
            repo.base,
            repo.git("rev-parse", "HEAD"),
            expired_home(ida),
        )
        assert found is not None
        assert "has expired" in found.why
    finally:
        bob.close()


def expired_home(ida: PgpSigner) -> str:
    """The same home, seen from the far future: every key with a date has expired."""
    (Path(ida.home.path) / "gpg.conf").write_text("faked-system-time 20400101T000000\n")
    return ida.home.path


@pytest.fixture(autouse=True)
def _present(ida: PgpSigner) -> Iterator[None]:
    yield
    (Path(ida.home.path) / "gpg.conf").unlink(missing_ok=True)


def test_shallow_clone_cannot_be_verified(repo: Pinned, ida: PgpSigner, tmp_path: Path) -> None:
    unsigned(repo)
    head = signed(repo, ida)
    repo.git("clone", "-q", "--depth", "1", repo.root.as_uri(), str(tmp_path / "clone"))
    checkout = Checkout.open(tmp_path / "clone")
    found = first_untrusted(checkout, None, head, ida.home.path)
    assert found is not None
    assert "--unshallow" in found.why
    with pytest.raises(RepositoryError, match="has no commit"):
        first_untrusted(checkout, repo.base, head, ida.home.path)


@pytest.mark.parametrize("file", ["info/grafts", "shallow"])
@pytest.mark.parametrize("hidden_in", ["what is new", "what was accepted"])
def test_no_graft_hides_a_parent(repo: Pinned, ida: PgpSigner, file: str, hidden_in: str) -> None:
    """The git folder says that a commit has another parent than it names, as many as it has."""
    start = repo.base
    good = signed(repo, ida)
    bad = unsigned(repo)
    head = signed(repo, ida)
    place = repo.root / ".git" / file
    place.parent.mkdir(exist_ok=True)
    if hidden_in == "what is new":
        place.write_text(f"{head} {good}\n")
    else:
        repo.base = good
        place.write_text(f"{good} {bad}\n{bad} {start}\n")
    found = first_untrusted(Checkout.open(repo.root), repo.base, head, ida.home.path)
    assert found is not None
    assert (found.commit, found.why) == (bad, "it is not signed")


def test_a_branch_that_began_before_the_accepted_commit_answers_for_its_own_commits(
    repo: Pinned, ida: PgpSigner
) -> None:
    """What came before it was accepted with it, signed or not."""
    unsigned(repo)
    repo.git("checkout", "-q", "-b", "feature")
    signed(repo, ida)
    repo.git("checkout", "-q", "main")
    repo.base = unsigned(repo)
    signed(repo, ida, "merge", "merge", "--quiet", "--no-ff", "feature")
    assert look(repo, ida) is None
    repo.git("checkout", "-q", "feature")
    bad = unsigned(repo)
    repo.git("checkout", "-q", "main")
    signed(repo, ida, "merge", "merge", "--quiet", "--no-ff", "feature")
    found = look(repo, ida)
    assert found is not None
    assert found.commit == bad


def test_an_ssh_key_that_is_not_among_them(repo: Pinned, ida: PgpSigner, sam: SshSigner) -> None:
    other = SshSigner.make("Other")
    allow(repo, other.allowed())
    other.close()
    signed(repo, sam)
    found = look(repo, ida)
    assert found is not None
    assert "not among the allowed signers" in found.why
    assert "SHA256:" in found.why


def test_an_ssh_key_whose_time_is_over(repo: Pinned, ida: PgpSigner, sam: SshSigner) -> None:
    allow(repo, sam.allowed('valid-before="20200101"'))
    signed(repo, sam)
    found = look(repo, ida)
    assert found is not None
    assert "at that time" in found.why


def test_ssh_key_without_allowed_signers(repo: Pinned, ida: PgpSigner, sam: SshSigner) -> None:
    signed(repo, sam)
    found = look(repo, ida)
    assert found is not None
    assert "gpg.ssh.allowedSignersFile does not say" in found.why


# Who is trusted is not for a commit to say.


def signers_in_the_tree(repo: Pinned, sam: SshSigner) -> None:
    repo.write("allowed_signers", sam.allowed())
    repo.git("config", "gpg.ssh.allowedSignersFile", "allowed_signers")


def signers_through_a_link_in_the_tree(repo: Pinned, sam: SshSigner) -> None:
    file = allow(repo, sam.allowed())
    (repo.root / "link").symlink_to(file)
    repo.git("config", "gpg.ssh.allowedSignersFile", str(repo.root / "link"))


def signers_through_a_link_into_the_tree(repo: Pinned, sam: SshSigner) -> None:
    inside = repo.write("allowed_signers", sam.allowed())
    link = repo.root.parent / "link"
    link.symlink_to(inside)
    repo.git("config", "gpg.ssh.allowedSignersFile", str(link))


def settings_included_from_the_tree(repo: Pinned, sam: SshSigner) -> None:
    file = allow(repo, sam.allowed())
    repo.git("config", "--unset", "gpg.ssh.allowedSignersFile")
    repo.write("gitconfig", f'[gpg "ssh"]\n\tallowedSignersFile = {file}\n')
    repo.git("config", "include.path", "../gitconfig")


def a_program_in_the_tree(repo: Pinned, sam: SshSigner) -> None:
    allow(repo, sam.allowed())
    repo.write("bin/verify", "#!/bin/sh\nexit 0\n").chmod(0o755)
    repo.git("config", "gpg.ssh.program", "bin/verify")


FROM_THE_TREE = [
    signers_in_the_tree,
    signers_through_a_link_in_the_tree,
    signers_through_a_link_into_the_tree,
    settings_included_from_the_tree,
    a_program_in_the_tree,
]


@pytest.mark.parametrize("how", FROM_THE_TREE, ids=lambda how: how.__name__)
def test_commit_cannot_change_trusted_ssh_keys(
    repo: Pinned, ida: PgpSigner, sam: SshSigner, how: Callable[[Pinned, SshSigner], None]
) -> None:
    program = repo.root / "bin/verify"
    signed(repo, sam)
    how(repo, sam)
    found = look(repo, ida)
    assert found is not None
    assert "in the repository, where a commit can change it" in found.why
    assert not program.exists() or "gpg.ssh.program" in found.why


def test_signers_in_the_git_folder_are_fine_for_nothing_commits_there(
    repo: Pinned, ida: PgpSigner, sam: SshSigner
) -> None:
    signed(repo, sam)
    repo.write(".git/allowed_signers", sam.allowed())
    repo.git("config", "gpg.ssh.allowedSignersFile", ".git/allowed_signers")
    assert look(repo, ida) is None


def test_a_commit_cannot_bring_a_keyring(repo: Pinned, ida: PgpSigner) -> None:
    signed(repo, ida)
    found = first_untrusted(
        Checkout.open(repo.root),
        repo.base,
        repo.git("rev-parse", "HEAD"),
        str(repo.root / "keys"),
    )
    assert found is not None
    assert "is in the repository, where a commit can add keys" in found.why


def test_a_folder_has_no_commits(tmp_path: Path, ida: PgpSigner) -> None:
    with pytest.raises(RepositoryError, match="no git checkout"):
        first_untrusted(Checkout.open(tmp_path), None, "0" * 40, ida.home.path)


def test_without_the_git_program(repo: Pinned, ida: PgpSigner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    head = signed(repo, ida)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = first_untrusted(Checkout.open(repo.root), repo.base, head, ida.home.path)
    assert found is not None
    assert "git" in found.why
