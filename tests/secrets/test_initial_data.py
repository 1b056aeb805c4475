from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.errors import SecretsError, Severity
from reconciler.repository.documents.events import too_large
from reconciler.repository.git.trees import File
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import FOLDER, InitialData
from tests.secrets.conftest import Office
from tests.secrets.keys import SECRET, AgeKey, Files, Home, Sops, said

PLAIN = f"TOKEN: {SECRET}\nORG: 012345\nON: true\nRATE: 1.50\nPORT: 8080\nDAY: 2026-12-01\nNOTHING:\n'1': one\n"
TEXTS = {
    "TOKEN": SECRET, "ORG": "012345", "ON": "true", "RATE": "1.50", "PORT": "8080", "DAY": "2026-12-01", "1": "one",
}  # fmt: skip


@pytest.fixture
def initial_data(gnupg: Gnupg) -> InitialData:
    return InitialData(gnupg)


def tree(files: dict[str, bytes]) -> Files:
    return Files({f"{FOLDER}/{name}": content for name, content in files.items()})


@pytest.mark.parametrize("name", ["asana.yaml.gpg", "asana.yml.gpg", "asana.yaml.asc", "asana.yml.asc"])
def test_yaml_under_every_name(name: str, initial_data: InitialData, office: Office):
    raw = office.home.encrypt(PLAIN.encode(), armor=name.endswith("asc"))
    assert initial_data.read(tree({name: raw}), "asana") == TEXTS


@pytest.mark.parametrize("name", ["asana.json.gpg", "asana.json.asc"])
def test_json_under_every_name(name: str, initial_data: InitialData, office: Office):
    raw = office.home.encrypt(json.dumps({"TOKEN": SECRET, "N": 5, "ON": False, "X": None}).encode())
    assert initial_data.read(tree({name: raw}), "asana") == {"TOKEN": SECRET, "N": "5", "ON": "false"}


@pytest.mark.parametrize("kind", ["yaml", "yml", "json"])
def test_sops_under_every_name(kind: str, initial_data: InitialData, office: Office, sops_program: Sops):
    plain = json.dumps({"TOKEN": SECRET, "ORG": 12345, "X": None}).encode()
    raw = sops_program.encrypt(plain, "--pgp", office.mine, kind="json" if kind == "json" else "yaml")
    assert initial_data.read(tree({f"asana.sops.{kind}": raw}), "asana") == {"TOKEN": SECRET, "ORG": "12345"}


def test_no_file_is_no_error(initial_data: InitialData, office: Office):
    other = {"asana.yaml.gpg": office.home.encrypt(b"A: b")}
    assert initial_data.read(tree(other), "slack") is None
    assert initial_data.read(tree({}), "slack") is None


def test_other_files_are_not_initial_data(initial_data: InitialData):
    files = tree({".sops.yaml": b"creation_rules: []", "README.md": b"text", "old/asana.yaml": b"TOKEN: x"})
    assert initial_data.read(files, "asana") is None
    (unread,) = initial_data.problems(files)
    assert (unread.file, unread.severity) == ("config/initial_data/old/asana.yaml", Severity.WARNING)
    assert initial_data.recipients(files) == []


def test_a_service_with_dots_in_its_name(initial_data: InitialData, office: Office):
    files = tree({"a.b.yaml.gpg": office.home.encrypt(b"A: b")})
    assert initial_data.read(files, "a.b") == {"A": "b"}


def test_two_files_of_one_service_are_both_named(initial_data: InitialData, office: Office):
    raw = office.home.encrypt(b"A: b")
    files = tree({"asana.yaml.gpg": raw, "asana.sops.json": b"{}"})
    with pytest.raises(SecretsError) as refused:
        initial_data.read(files, "asana")
    assert f"{FOLDER}/asana.yaml.gpg" in str(refused.value)
    assert f"{FOLDER}/asana.sops.json" in str(refused.value)
    assert [problem.file for problem in initial_data.problems(files)] == [f"{FOLDER}/asana.sops.json"]
    assert files.reads == []


@pytest.mark.parametrize("name", ["asana.yaml", "asana.yml", "asana.json"])
def test_a_file_in_the_clear_is_refused_loudly(name: str, initial_data: InitialData, office: Office):
    files = tree({name: f'{{"TOKEN": "{SECRET}"}}'.encode(), "asana.yaml.gpg": office.home.encrypt(b"A: b")})
    with pytest.raises(SecretsError, match=r"not encrypted.*rotate.*initial-data set asana") as refused:
        initial_data.read(files, "asana")
    assert str(refused.value).startswith(f"{FOLDER}/{name}: ")
    assert SECRET not in said(refused.value)
    (problem,) = initial_data.problems(files)
    assert problem.file == f"{FOLDER}/{name}"


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("asana.sops.yaml", f"TOKEN: {SECRET}".encode(), "not encrypted"),
        ("asana.sops.json", f'{{"TOKEN": "{SECRET}"}}'.encode(), "not encrypted"),
        ("asana.yaml.gpg", f"TOKEN: {SECRET}".encode(), "not a PGP message"),
    ],
)
def test_a_name_does_not_make_a_file_encrypted(name: str, raw: bytes, says: str, initial_data: InitialData):
    with pytest.raises(SecretsError, match=rf"^{FOLDER}/{name}: .*{says}.*rotate") as refused:
        initial_data.read(tree({name: raw}), "asana")
    assert SECRET not in said(refused.value)
    (problem,) = initial_data.problems(tree({name: raw}))
    assert (problem.file, problem.severity) == (f"{FOLDER}/{name}", "error")
    assert "not encrypted" in problem.message, "without a key too"
    assert SECRET not in problem.message


@pytest.mark.parametrize("armor", [False, True])
def test_possibly_encrypted_file_is_no_problem(initial_data: InitialData, office: Office, armor: bool):
    raw = office.home.encrypt(b"A: b", armor=armor)
    assert initial_data.problems(tree({"asana.yaml.gpg": raw, "slack.yaml.asc": raw, "x.yaml.gpg": b"cut off"})) == []


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        pytest.param(f"TOKEN: [{SECRET}]", "TOKEN is not one value", id="list"),
        pytest.param(f"TOKEN: {{a: {SECRET}}}", "TOKEN is not one value", id="map"),
        pytest.param(f"- {SECRET}", "not a map", id="top-list"),
        pytest.param(SECRET, "not a map", id="top-text"),
        pytest.param(f"A: 1\nTOKEN: '{SECRET}\n", "decrypted, line", id="not-yaml"),
        pytest.param(f"TOKEN: {SECRET}\nTOKEN: {SECRET}x", "decrypted, line 2: duplicate key 'TOKEN'", id="twice"),
        pytest.param(f"TOKEN: !!python/name:os.{SECRET} x", "decrypted, line 1: tags", id="tag"),
    ],
)
def test_content_that_is_no_map_of_values(plain: str, says: str, initial_data: InitialData, office: Office):
    with pytest.raises(SecretsError, match=says) as refused:
        initial_data.read(tree({"asana.yaml.gpg": office.home.encrypt(plain.encode())}), "asana")
    assert str(refused.value).startswith(f"{FOLDER}/asana.yaml.gpg: ")
    assert SECRET not in said(refused.value)


def test_an_empty_file_holds_nothing(initial_data: InitialData, office: Office):
    assert initial_data.read(tree({"asana.yaml.gpg": office.home.encrypt(b"# nothing yet\n")}), "asana") == {}


def test_a_file_over_the_limit(initial_data: InitialData):
    class Large(Files):
        def read(self, file: File, limit: int | None = None) -> bytes:
            raise too_large(file.path, 1 << 21)

    with pytest.raises(SecretsError, match=rf"^{FOLDER}/asana\.yaml\.gpg: 2,097,152 bytes"):
        initial_data.read(Large({f"{FOLDER}/asana.yaml.gpg": b""}), "asana")


def test_an_error_is_no_longer_than_it_can_be_read(initial_data: InitialData):
    raw = b"a: b\nsops: {mac: x, age: [{recipient: age1%s, enc: x}]}\n" % (b"9" * 200_000)
    with pytest.raises(SecretsError, match=r"config/initial_data/asana\.sops\.yaml: age … no age identity") as refused:
        initial_data.read(tree({"asana.sops.yaml": raw}), "asana")
    assert len(str(refused.value)) < 2100


def test_decrypted_data_is_cached_by_blob(initial_data: InitialData, office: Office):
    files = tree({"asana.yaml.gpg": office.home.encrypt(b"A: b")})
    first = initial_data.read(files, "asana")
    assert first is not None
    first["A"] = "changed"
    assert initial_data.read(files, "asana") == {"A": "b"}
    assert files.reads == [f"{FOLDER}/asana.yaml.gpg"]
    files.content[f"{FOLDER}/asana.yaml.gpg"] = office.home.encrypt(b"A: c")
    assert initial_data.read(files, "asana") == {"A": "c"}


def test_a_failure_is_not_kept(office: Office):
    files = tree({"asana.yaml.gpg": office.home.encrypt_to(b"A: b", office.locked)})
    initial_data = InitialData(Gnupg(office.home.path))
    office.home.forget_passphrases()
    with pytest.raises(SecretsError, match="passphrase"):
        initial_data.read(files, "asana")
    office.home.run("--passphrase", "correct horse", "--decrypt", given=files.content[f"{FOLDER}/asana.yaml.gpg"])
    assert initial_data.read(files, "asana") == {"A": "b"}
    office.home.forget_passphrases()


def test_many_at_once_and_one_broken_touches_only_itself(initial_data: InitialData, office: Office):
    good = {f"s{number}.yaml.gpg": office.home.encrypt(f"N: {number}".encode()) for number in range(10)}
    found = initial_data.read_all(tree({**good, "bad.yaml.gpg": b"x"}), [*(f"s{n}" for n in range(10)), "bad", "none"])
    assert list(found) == [*(f"s{number}" for number in range(10)), "bad", "none"]
    bad, none = found.pop("bad"), found.pop("none")
    assert found == {f"s{number}": {"N": str(number)} for number in range(10)}
    assert isinstance(bad, SecretsError)
    assert bad.__traceback__ is None
    assert none is None


def test_recipients_of_every_form(
    initial_data: InitialData, office: Office, gnupg: Gnupg, age_key: AgeKey, sops_program: Sops
):
    pgp = office.home.encrypt_to(b"A: b", office.other)
    both = sops_program.encrypt(b"A: b", "--pgp", office.mine, "--age", age_key.recipient)
    files = tree({"a.yaml.gpg": pgp, "b.sops.yaml": both, "c.yaml.gpg": b"damaged", "d.yaml": b"A: clear"})
    expected = sorted([*gnupg.recipients(pgp), office.mine, age_key.recipient])
    assert initial_data.recipients(files) == expected
    reads = len(files.reads)
    assert initial_data.recipients(files) == expected
    assert len(files.reads) == reads + 1  # the damaged one again


def test_unknown_recipients_are_not_taken_for_none(initial_data: InitialData):
    with pytest.raises(SecretsError, match="not a PGP message"):
        initial_data.recipients(tree({"a.yaml.gpg": b"damaged"}))


def test_recipients_need_no_secret_key(office: Office, stranger: Home):
    files = tree({"a.yaml.gpg": office.home.encrypt(b"A: b")})
    assert len(InitialData(Gnupg(stranger.path)).recipients(files)) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), st.text(max_size=20), max_size=5))
def test_json_texts_come_back_as_they_are(values: dict[str, Any], gnupg: Gnupg, office: Office):
    raw = office.home.encrypt(json.dumps(values).encode())
    assert InitialData(gnupg).read(tree({"x.json.gpg": raw}), "x") == values
