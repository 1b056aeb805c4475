"""The reader against the real program: the same values, the same refusals."""

from __future__ import annotations

import json
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reconciler.model.base import as_text
from reconciler.model.errors import SecretsError
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sops import SopsFile
from tests.secrets.conftest import Office
from tests.secrets.keys import SECRET, SOPS, AgeKey, Home, Sops, said

SAMPLES = Path(__file__).parents[2].parent / "shared" / "data" / "sops"

YAML = f"""\
# a comment
token: {SECRET}   # and another
number: 12
port: "0012"
fraction: 1.5
yes: yes
truth: true
lie: False
day: 2020-01-01
nothing: null
empty: ""
umlaut: "é 😀 \\"q\\" {{{{x}}}}"
lines: |
  one
  two
nested:
  list:
    - 1
    - deep: {SECRET}
      other: b
    - [x, y]
map: {{}}
list: []
clear_unencrypted: text
whole_unencrypted: 7
part_unencrypted: 2.50
truth_unencrypted: True
none_unencrypted: ~
when_unencrypted: 2020-01-01
lines_unencrypted: |
  a
  b
"""


def alike(ours: Any, theirs: Any) -> bool:
    """Whether the values are the same; a number that stands in the clear may be the text that it is written as."""
    match ours, theirs:
        case dict(), dict():
            return list(ours) == list(theirs) and all(alike(ours[name], theirs[name]) for name in ours)
        case list(), list():
            return len(ours) == len(theirs) and all(map(alike, ours, theirs))
        case str(), bool():
            return ours == str(theirs)
        case bool(), _:
            return ours is theirs
        case str() | int() | float(), int() | float():
            return float(ours) == float(theirs)
        case date(), str():
            return theirs == f"{ours.isoformat()}T00:00:00Z"
        case _:
            return bool(ours == theirs)


@pytest.fixture
def age(age_key: AgeKey, monkeypatch: pytest.MonkeyPatch) -> str:
    """This machine has the identity; the recipient is returned."""
    monkeypatch.setenv("SOPS_AGE_KEY", f"# mine\n{age_key.identity}\n")
    return age_key.recipient


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def same(raw: bytes, gnupg: Gnupg, program: Sops, kind: str = "yaml") -> dict[str, Any]:
    theirs = program.decrypt(raw, kind)
    assert theirs is not None
    ours = SopsFile(raw, gnupg, json=kind == "json").decrypt()
    assert alike(ours, json.loads(theirs)), (ours, theirs)
    return ours


RULES = {
    "default": {},
    "unencrypted-suffix": {"unencrypted_suffix": "r"},
    "encrypted-suffix": {"encrypted_suffix": "en"},
    "encrypted-regex": {"encrypted_regex": "^(token|nested)$"},
    "unencrypted-regex": {"unencrypted_regex": "^n"},
    "gos-regex": {"encrypted_regex": r"^\pL{5}\z"},
    "mac-only-encrypted": {"mac_only_encrypted": True, "encrypted_regex": "token"},
}


@pytest.fixture
def rules(tmp_path: Path):
    """Writes a .sops.yaml with one rule."""

    def write(**rule: Any) -> Path:
        path = tmp_path / ".sops.yaml"
        path.write_text(yaml.safe_dump({"creation_rules": [rule]}))
        return path

    return write


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_of_a_yaml_file(rule: dict[str, Any], age: str, gnupg: Gnupg, sops_program: Sops, rules):
    ours = same(sops_program.encrypt(YAML.encode(), rules=rules(age=age, **rule)), gnupg, sops_program)
    assert ours["token"] == SECRET
    assert ours["port"] == "0012"


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_of_a_json_file(rule: dict[str, Any], age: str, gnupg: Gnupg, sops_program: Sops, rules):
    plain = {
        "token": SECRET, "id": 12345, "part": 1.5, "truth": True, "none": None, "empty": "",
        "nested": {"a": [1, {"b": "c"}]},
        "clear_unencrypted": 100, "part_unencrypted": 0.25, "truth_unencrypted": False, "none_unencrypted": None,
    }  # fmt: skip
    raw = sops_program.encrypt(json.dumps(plain).encode(), kind="json", rules=rules(age=age, **rule))
    ours = same(raw, gnupg, sops_program, "json")
    assert as_text(ours["id"]) == "12345"


@pytest.mark.parametrize("number", ["0.0000001", "-1e20", "123456789012345678901234567890", "1.50", "0x1F"])
def test_numbers_come_as_go_reads_them(number: str, age: str, gnupg: Gnupg, sops_program: Sops):
    same(sops_program.encrypt(f"a: {number}\n".encode(), "--age", age), gnupg, sops_program)


@pytest.mark.usefixtures("no_program")
def test_pgp_keys(gnupg: Gnupg, office: Office, sops_program: Sops):
    raw = sops_program.encrypt(YAML.encode(), "--pgp", f"{office.mine},{office.other}")
    same(raw, gnupg, sops_program)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("mine", [["pgp"], ["age"], ["pgp", "age"]], ids="+".join)
def test_key_groups_need_their_threshold(
    mine: list[str], office: Office, stranger: Home, age_key: AgeKey, sops_program: Sops, monkeypatch, rules
):
    groups = [{"pgp": [office.mine]}, {"age": [age_key.recipient]}, {"age": [AgeKey().recipient]}]
    raw = sops_program.encrypt(YAML.encode(), rules=rules(shamir_threshold=2, key_groups=groups))
    if "age" in mine:
        monkeypatch.setenv("SOPS_AGE_KEY", age_key.identity)
    gnupg = Gnupg(office.home.path if "pgp" in mine else stranger.path)
    if len(mine) == 2:
        same(raw, gnupg, sops_program)
        return
    with pytest.raises(SecretsError, match="1 of 3 key groups open, and 2 are needed"):
        SopsFile(raw, gnupg, json=False).decrypt()


leaf = (
    # What Go's YAML takes in its plain form.
    st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="\ufeff", include_characters="\n\t"),
        max_size=12,
    )
    | st.integers(-(2**53), 2**53)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number or 0.0)  # JSON's -0 loses its sign
)
key = st.from_regex(r"[a-z]{1,4}(_unencrypted)?", fullmatch=True)
content = st.dictionaries(
    key.filter(lambda name: name != "sops"),
    st.recursive(
        leaf, lambda below: st.lists(below, max_size=3) | st.dictionaries(key, below, max_size=3), max_leaves=6
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("kind", ["yaml", "json"])
@settings(
    max_examples=25, phases=[Phase.generate], deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plain=content)
def test_any_content(kind: str, plain: dict[str, Any], age: str, gnupg: Gnupg, sops_program: Sops):
    # JSON is YAML: what SOPS makes of it in its YAML store is what is compared.
    raw = sops_program.encrypt(json.dumps(plain, ensure_ascii=False).encode(), "--age", age, kind=kind)
    same(raw, gnupg, sops_program, kind)


# Without the one value that PyYAML, which edits these files here, would write in another form.
EDITABLE = YAML.replace("when_unencrypted: 2020-01-01\n", "")


def edited(raw: bytes, change) -> bytes:
    data = yaml.safe_load(raw)
    change(data)
    return yaml.safe_dump(data, sort_keys=False, width=10_000).encode()


def spoil(text: str, field: str) -> str:
    """One character of a part of an encrypted value replaced."""
    at = text.index(f"{field}:") + len(field) + 1
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def swap(data: dict[str, Any], one: str, other: str) -> None:
    data[one], data[other] = data[other], data[one]


def _set(path: str, value: Any):
    def change(data: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for step in way:
            data = data[step]
        data[last] = value(data[last]) if callable(value) else value

    return change


TAMPERED = [
    ("data", _set("token", lambda text: spoil(text, "data")), "token was altered"),
    ("iv", _set("token", lambda text: spoil(text, "iv")), "token was altered"),
    ("tag", _set("token", lambda text: spoil(text, "tag")), "token was altered"),
    ("type", _set("token", lambda text: text.replace("type:str", "type:int")), "token is not of the type"),
    ("not-base64", _set("token", lambda text: text.replace("iv:", "iv:*")), "token was altered"),
    ("moved", lambda data: swap(data, "token", "number"), "was altered, moved"),
    ("in-the-clear", _set("token", SECRET), "token is not encrypted, and has to be"),
    ("number-in-the-clear", _set("token", 5), "token is not encrypted, and has to be"),
    ("emptied", _set("token", ""), "MAC does not match"),
    ("removed", lambda data: data.pop("token"), "MAC does not match"),
    ("null", _set("token", None), "MAC does not match"),
    ("list-turned", lambda data: data["nested"]["list"].reverse(), "MAC does not match"),
    ("unencrypted", _set("clear_unencrypted", "other"), "MAC does not match"),
    ("added", lambda data: data.update(new_unencrypted="x"), "MAC does not match"),
    ("mac", _set("sops.mac", lambda text: spoil(text, "data")), "its MAC or `lastmodified` was altered"),
    ("mac-gone", lambda data: data["sops"].pop("mac"), "has no MAC"),
    ("lastmodified", _set("sops.lastmodified", "2020-01-01T00:00:00Z"), "its MAC or `lastmodified` was altered"),
    (
        "rule",
        lambda data: data["sops"].update(mac_only_encrypted=True),
        "MAC does not",
    ),
    ("two-rules", lambda data: data["sops"].update(encrypted_suffix="n"), "more than one rule"),
    ("recipient", lambda data: data["sops"]["age"][0].update(enc=AgeKey().recipient), "does not open it"),
    ("no-recipients", lambda data: data["sops"].update(age=[]), "names no keys"),
    ("no-sops", lambda data: data.pop("sops"), "not encrypted"),
]


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize(("change", "says"), [case[1:] for case in TAMPERED], ids=[case[0] for case in TAMPERED])
def test_tampered_file_is_refused_like_sops_does(change, says: str, age: str, gnupg, sops_program: Sops):
    raw = edited(sops_program.encrypt(EDITABLE.encode(), "--age", age), change)
    assert sops_program.decrypt(raw) is None
    with pytest.raises(SecretsError, match=says) as refused:
        SopsFile(raw, gnupg, json=False).decrypt()
    assert SECRET not in said(refused.value)


@pytest.mark.usefixtures("no_program")
def test_text_after_a_value_is_refused_unlike_sops_does(age: str, gnupg: Gnupg, sops_program: Sops):
    raw = edited(sops_program.encrypt(EDITABLE.encode(), "--age", age), _set("token", lambda text: text + "more"))
    with pytest.raises(SecretsError, match="token is not encrypted"):
        SopsFile(raw, gnupg, json=False).decrypt()


@pytest.mark.usefixtures("no_program")
def test_a_recipient_that_is_not_the_one_is_refused(age: str, gnupg: Gnupg, sops_program: Sops):
    other = AgeKey().recipient
    raw = edited(
        sops_program.encrypt(EDITABLE.encode(), "--age", age),
        lambda data: data["sops"]["age"][0].update(recipient=other),
    )
    with pytest.raises(SecretsError, match=f"age {other}: no age identity here"):
        SopsFile(raw, gnupg, json=False).decrypt()


@pytest.mark.usefixtures("no_program")
def test_no_identity_names_the_recipient_and_the_places(age_key: AgeKey, gnupg: Gnupg, sops_program: Sops):
    raw = sops_program.encrypt(EDITABLE.encode(), "--age", age_key.recipient)
    with pytest.raises(SecretsError, match="SOPS_AGE_KEY_FILE") as refused:
        SopsFile(raw, gnupg, json=False).decrypt()
    assert age_key.recipient in str(refused.value)


@pytest.mark.parametrize("place", ["SOPS_AGE_KEY_FILE", "keys.txt"])
def test_where_identities_are_found(
    place: str, age_key: AgeKey, gnupg, sops_program: Sops, tmp_path: Path, monkeypatch
):
    file = tmp_path / "config" / "sops" / "age" / "keys.txt"
    file.parent.mkdir(parents=True)
    file.write_text(f"# created\nAGE-SECRET-KEY-1BROKEN\nAGE-PLUGIN-X\n{age_key.identity}\n")
    if place == "SOPS_AGE_KEY_FILE":
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
        monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(file))
    raw = sops_program.encrypt(b"a: b\n", "--age", age_key.recipient)
    assert SopsFile(raw, gnupg, json=False).decrypt() == {"a": "b"}


FOREIGN = [
    (
        "kms",
        lambda data: data["sops"].update(age=[], kms=[{"arn": "arn:aws:kms:x:1:key/2", "enc": "x", "created_at": "x"}]),
    ),
    ("vault", lambda data: data["sops"].update(age=[], hc_vault=[{"vault_address": "x", "enc": "x"}])),
    ("ssh", lambda data: data["sops"]["age"][0].update(recipient="ssh-ed25519 AAAA", enc="x")),
    ("comment-rule", lambda data: data["sops"].update(encrypted_comment_regex="x", unencrypted_suffix="")),
    ("pythons-regex", lambda data: data["sops"].update(encrypted_regex="(?=a)", unencrypted_suffix="")),
    ("endless-regex", lambda data: data["sops"].update(encrypted_regex="(" * 9000 + ")" * 9000, unencrypted_suffix="")),
]


@pytest.mark.parametrize("change", [case[1] for case in FOREIGN], ids=[case[0] for case in FOREIGN])
@pytest.mark.parametrize("installed", [True, False], ids=["installed", "absent"])
def test_unknown_format_is_left_to_the_sops_program(
    change, installed: bool, age: str, gnupg, sops_program, monkeypatch
):
    raw = edited(sops_program.encrypt(EDITABLE.encode(), "--age", age), change)
    monkeypatch.setenv("PATH", f"{SOPS.parent}:/usr/bin:/bin" if installed else "/usr/bin:/bin")
    says = "program refuses it" if installed else "which is not installed"
    with pytest.raises(SecretsError, match=says) as refused:
        SopsFile(raw, gnupg, json=False).decrypt(lambda _url: None)
    assert SECRET not in said(refused.value)


def test_an_anchor_that_stands_twice_is_left_to_sops(gnupg: Gnupg, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SecretsError, match="an anchor that stands twice; that needs the `sops` program"):
        SopsFile(b"a: &x b\nc: &x d\nsops: {mac: x}\n", gnupg, json=False).decrypt()


def test_a_pattern_that_never_comes_to_an_end_elsewhere(age: str, gnupg: Gnupg, sops_program: Sops, rules):
    key = "a" * 60 + "!"
    raw = sops_program.encrypt(f"{key}: {SECRET}\n".encode(), rules=rules(age=age, unencrypted_regex="^(a+)+$"))
    assert SopsFile(raw, gnupg, json=False).decrypt() == {key: SECRET}


@pytest.mark.parametrize("rule", ["encrypted_comment_regex", "unencrypted_comment_regex"])
def test_rules_by_comment_are_read_by_sops(rule: str, age: str, gnupg: Gnupg, sops_program, monkeypatch, rules):
    monkeypatch.setenv("PATH", f"{SOPS.parent}:/usr/bin:/bin")
    plain = f"# marked\nTOKEN: {SECRET}\nOTHER: x\n".encode()
    raw = sops_program.encrypt(plain, rules=rules(age=age, **{rule: "marked"}))
    assert SopsFile(raw, gnupg, json=False).decrypt() == {"TOKEN": SECRET, "OTHER": "x"}


@pytest.mark.parametrize("text", ["0x10", "1_000", "0017", ".inf", "2020-01-01", "1e400"])
def test_clear_values_that_yaml_readers_read_differently_are_left_to_sops(
    text: str, age: str, gnupg: Gnupg, sops_program: Sops, monkeypatch
):
    raw = sops_program.encrypt(f"a: b\nx_unencrypted: {SECRET}\n".encode(), "--age", age)
    raw = raw.replace(f"x_unencrypted: {SECRET}".encode(), f"x_unencrypted: {text}".encode())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(SecretsError):
        SopsFile(raw, gnupg, json=False).decrypt()


@pytest.mark.parametrize(
    ("raw", "json_", "says"),
    [
        pytest.param(b"a: [", False, "not YAML", id="yaml"),
        pytest.param(b"{", True, "not JSON", id="json"),
        pytest.param(b"- a", False, "not a map", id="list"),
        pytest.param(b"a: 1\nsops: {}\n", False, "has no MAC", id="empty-sops"),
        pytest.param(b"a: 1\nsops: 5\n", False, "not encrypted", id="sops-is-no-map"),
        pytest.param(b"a: 1\nsops: {mac: x, key_groups: [1]}\n", False, "not a list of groups", id="bad-groups"),
        pytest.param(b"a: 1\nsops: {mac: x, age: [1]}\n", False, "under its age lacks", id="bad-key"),
        pytest.param(b"a: 1\nsops: {mac: x, pgp: text}\n", False, "under its pgp lacks", id="bad-keys"),
        pytest.param(
            b"a: 1\nsops: {mac: x, shamir_threshold: x, key_groups: [{}, {}]}\n", False, "threshold", id="bad-threshold"
        ),
    ],
)
def test_other_files_are_not_sops_files(raw: bytes, json_: bool, says: str, gnupg: Gnupg):
    with pytest.raises(SecretsError, match=says):
        SopsFile(raw, gnupg, json=json_).decrypt()


@pytest.fixture(scope="module")
def sample_home():
    if not SAMPLES.is_dir():
        pytest.skip("the samples of the sops project are not here")
    home = Home()
    home.run("--import", given=(SAMPLES / "pgp" / "sops_functional_tests_key.asc").read_bytes())
    yield home
    home.close()


@pytest.mark.parametrize(
    "name",
    [
        "example.yaml",
        "example.json",
        "examples/all_in_one/config/secret.enc.json",
        "examples/per_file/config.enc/static_github.json",
        *(f"functional-tests/res/{name}" for name in (
            "comments.enc.yaml", "comments.yaml", "comments_list.yaml", "comments_unencrypted_comments.yaml",
            "format.enc.json", "format.enc.yaml", "multiple_keys.yaml", "no_mac.yaml", "plainfile.yaml",
        )),
    ],
)  # fmt: skip
def test_the_sops_projects_own_samples(name: str, sample_home: Home, age_key: AgeKey):
    kind = name.rpartition(".")[2]
    raw, program = (SAMPLES / name).read_bytes(), Sops(sample_home.path, age_key.identity)
    theirs = program.decrypt(raw, kind)
    if theirs is not None:
        same(raw, Gnupg(sample_home.path), program, kind)
        return
    with pytest.raises(SecretsError):
        SopsFile(raw, Gnupg(sample_home.path), json=kind == "json").decrypt()


def test_the_program_is_there():
    assert subprocess.run([str(SOPS), "--version"], capture_output=True, check=True).stdout.startswith(b"sops 3.")
