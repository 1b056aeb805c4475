from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.errors import SecretsError
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import FOLDER, InitialData, encrypt_initial_data
from tests.secrets.conftest import Office
from tests.secrets.keys import SECRET, Files, said


def read_back(path: Path, root: Path, gnupg: Gnupg) -> dict[str, str] | None:
    files = Files({path.relative_to(root).as_posix(): path.read_bytes()})
    return InitialData(gnupg).read(files, path.name.partition(".")[0])


def test_written_data_reads_back(tmp_path: Path, gnupg: Gnupg, office: Office):
    values = {"TOKEN": SECRET, "ORG": "012345", "ON": "true", "LINES": "a\n b\n", "EMPTY": "", "NULL": "null"}
    path = encrypt_initial_data(tmp_path, "asana", values, [office.mine, office.other], gnupg)
    assert path == tmp_path / FOLDER / "asana.yaml.gpg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET.encode() not in path.read_bytes()
    assert len(gnupg.recipients(path.read_bytes())) == 2
    assert read_back(path, tmp_path, gnupg) == values
    assert [file.name for file in path.parent.iterdir()] == ["asana.yaml.gpg"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.from_regex(r"\w{1,8}", fullmatch=True), st.text(max_size=30), min_size=1, max_size=4))
def test_any_text_comes_back(values: dict[str, str], tmp_path: Path, gnupg: Gnupg, office: Office):
    path = encrypt_initial_data(tmp_path, "x", values, [office.mine], gnupg)
    assert read_back(path, tmp_path, gnupg) == values


def test_writing_again_replaces(tmp_path: Path, gnupg: Gnupg, office: Office):
    encrypt_initial_data(tmp_path, "asana", {"A": "1"}, [office.mine], gnupg)
    path = encrypt_initial_data(tmp_path, "asana", {"A": "2"}, [office.mine], gnupg)
    assert read_back(path, tmp_path, gnupg) == {"A": "2"}


@pytest.mark.parametrize(
    ("recipients", "says"),
    [
        ([], "no GnuPG key to encrypt to"),
        (["age1qqq"], "no GnuPG key to encrypt to.*sops encrypt"),
        (["0123456789ABCDEF"], "no public key"),
    ],
    ids=["none", "age-only", "unknown"],
)
def test_encryption_needs_a_recipient(recipients: list[str], says: str, tmp_path: Path, gnupg: Gnupg):
    with pytest.raises(SecretsError, match=says):
        encrypt_initial_data(tmp_path, "asana", {"A": SECRET}, recipients, gnupg)
    assert list(tmp_path.iterdir()) == []


def test_one_expired_key_keeps_the_old_file(tmp_path: Path, gnupg: Gnupg, office: Office):
    path = encrypt_initial_data(tmp_path, "asana", {"A": "1"}, [office.mine], gnupg)
    with pytest.raises(SecretsError, match="has expired"):
        encrypt_initial_data(tmp_path, "asana", {"A": "2"}, [office.mine, office.expired], gnupg)
    assert read_back(path, tmp_path, gnupg) == {"A": "1"}


@pytest.mark.parametrize("name", ["asana.sops.yaml", "asana.yaml.asc", "asana.yaml"])
def test_a_file_of_another_form_is_not_joined_by_a_second(name: str, tmp_path: Path, gnupg: Gnupg, office: Office):
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / name).write_text("")
    with pytest.raises(SecretsError, match=rf"{FOLDER}/{name} holds the initial data of asana"):
        encrypt_initial_data(tmp_path, "asana", {"A": "1"}, [office.mine], gnupg)


@pytest.mark.parametrize("service", ["", "../x", "a/b", ".hidden", "-x", "a b"])
def test_a_name_that_is_no_name_for_a_file(service: str, tmp_path: Path, gnupg: Gnupg, office: Office):
    with pytest.raises(SecretsError, match="cannot be the name"):
        encrypt_initial_data(tmp_path, service, {"A": "1"}, [office.mine], gnupg)


def test_a_text_that_is_not_text(tmp_path: Path, gnupg: Gnupg, office: Office):
    with pytest.raises(SecretsError, match="UTF-8") as refused:
        encrypt_initial_data(tmp_path, "asana", {"A": f"{SECRET}\udc80"}, [office.mine], gnupg)
    assert SECRET not in said(refused.value)


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, gnupg: Gnupg, office: Office, monkeypatch: pytest.MonkeyPatch
):
    path = encrypt_initial_data(tmp_path, "asana", {"A": "1"}, [office.mine], gnupg)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(step, full)
    with pytest.raises(SecretsError, match="cannot be written: No space left"):
        encrypt_initial_data(tmp_path, "asana", {"A": "2"}, [office.mine], gnupg)
    monkeypatch.undo()
    assert [file.name for file in path.parent.iterdir()] == ["asana.yaml.gpg"]
    assert read_back(path, tmp_path, gnupg) == {"A": "1"}
