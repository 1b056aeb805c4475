"""Hires' files that a program writes: nothing that comes from outside breaks out, and no other byte is touched."""
# ruff: noqa: E501  a table reads best with a line for each case

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.intake.files import hire_text, with_field, write_all
from reconciler.intake.yaml_edit import with_item
from reconciler.model.errors import NotWritable
from reconciler.model.hire import Hire
from reconciler.repository.documents.yaml import read

ADA = "email: ada@example.com\nfirst_name: Ada\nlast_name: Lovelace\n"


def test_a_hire_is_written_in_the_order_of_the_docs() -> None:
    text = hire_text(
        {
            "access": ["slack", {"integration": "asana", "values": {"TEAM_ID": "012345"}}],
            "start": date(2026, 12, 1),
            "last_name": "O'Neill",
            "extra": {"LOGIN": "grace"},
            "first_name": "NO",
            "email": "grace@example.com",
        }
    )

    assert text == (
        'email: grace@example.com\nfirst_name: "NO"\nlast_name: O\'Neill\nstart: 2026-12-01\nextra: {LOGIN: grace}\n'
        'access:\n  - slack\n  - integration: asana\n    values: {TEAM_ID: "012345"}\n'
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Ann Lee", "Ann Lee"),
        ("Zoë", "Zoë"),
        ("R&D", "R&D"),
        ("", '""'),
        ("true", '"true"'),
        ("Yes", '"Yes"'),
        ("null", '"null"'),
        ("~", '"~"'),
        ("012345", '"012345"'),
        ("1e3", '"1e3"'),
        ("2026-12-01", '"2026-12-01"'),
        ('Ada "Countess"', '"Ada \\"Countess\\""'),
        ("a\nadmin: true", '"a\\nadmin: true"'),
        ("- x", '"- x"'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        ("{{email}}", '"{{email}}"'),
        ("\x00\x7f\x85\u2028\ufeff", '"\\x00\\x7f\\x85\\u2028\\ufeff"'),
        ("\u202eadmin", '"\\u202eadmin"'),
        ("Ada ", '"Ada "'),
    ],
)
def test_text_is_quoted_where_it_could_be_taken_for_something_else(name: str, written: str) -> None:
    text = hire_text({"email": "x@example.com", "first_name": name, "last_name": ""})

    assert f"first_name: {written}\n" in text
    assert read(text.encode(), "hires/x.yaml").data["first_name"] == name


_TEXT = st.text(st.characters(codec="utf-8"))


@given(
    st.fixed_dictionaries(
        {
            "email": st.just("x@example.com"),
            "first_name": _TEXT,
            "last_name": _TEXT,
            "extra": st.dictionaries(_TEXT, _TEXT),
        }
    ),
    st.lists(st.fixed_dictionaries({"integration": _TEXT, "values": st.dictionaries(_TEXT, _TEXT | st.lists(_TEXT))})),
)
def test_written_file_reads_back_the_same(person: dict[str, Any], access: list[Any]) -> None:
    text = hire_text({**person, "access": access})

    assert read(text.encode(), "hires/x.yaml").data == {**person, "access": access}


def test_half_a_character_is_refused() -> None:
    with pytest.raises(NotWritable, match="not UTF-8"):
        hire_text({"email": "x@example.com", "first_name": "\ud800", "last_name": ""})


ENTRY = {"integration": "asana", "values": {"TEAM_ID": "1"}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(ADA, ADA + "access:\n  - asana\n", id="no list"),
        pytest.param(ADA.rstrip("\n"), ADA + "access:\n  - asana", id="no line end"),
        pytest.param(ADA + "access: []\n", ADA + "access: [asana]\n", id="empty flow"),
        pytest.param(ADA + "access:\n  # - slack\n", ADA + "access: [asana]\n  # - slack\n", id="comments alone"),
        pytest.param(ADA + "access: [slack]  # all\n", ADA + "access: [slack, asana]  # all\n", id="flow"),
        pytest.param(ADA + "access: [\n  slack,\n]\n", ADA + "access: [\n  slack, asana,\n]\n", id="flow on lines"),
        pytest.param(ADA + "access:\n- slack\n", ADA + "access:\n- slack\n- asana\n", id="not indented"),
        pytest.param(
            ADA + "access:\n    -   slack  # chat\n\n# the end\n",
            ADA + "access:\n    -   slack  # chat\n    - asana\n\n# the end\n",
            id="comments",
        ),
        pytest.param(
            "# Ada\naccess:\n  - integration: slack\n    values:\n      A: |\n        x\n        y\n" + ADA,
            "# Ada\naccess:\n  - integration: slack\n    values:\n      A: |\n        x\n        y\n  - asana\n" + ADA,
            id="before other keys, after a text of several lines",
        ),
        pytest.param(
            ADA + "access:\n  - integration: slack\n    values:\nphone: '1'\n",
            ADA + "access:\n  - integration: slack\n    values:\n  - asana\nphone: '1'\n",
            id="after nothing",
        ),
        pytest.param(
            (ADA + "access:\n  - slack\n").replace("\n", "\r\n"),
            (ADA + "access:\n  - slack\n  - asana\n").replace("\n", "\r\n"),
            id="CRLF",
        ),
        pytest.param("\ufeff" + ADA, "\ufeff" + ADA + "access:\n  - asana\n", id="byte order mark"),
        pytest.param(
            "---\n" + ADA + "access:\n  - slack\n...\n",
            "---\n" + ADA + "access:\n  - slack\n  - asana\n...\n",
            id="markers",
        ),
        pytest.param("---\n" + ADA + "...\n# end\n", "---\n" + ADA + "access:\n  - asana\n...\n# end\n", id="end mark"),
        pytest.param("{email: é@example.com}", "{email: é@example.com, access: [asana]}", id="flow map"),
        pytest.param(ADA + "access: &a\n  - slack\n", ADA + "access: &a\n  - slack\n  - asana\n", id="anchor"),
    ],
)
def test_one_more_entry_leaves_every_other_byte(before: str, after: str) -> None:
    assert with_item(before.encode(), "hires/ada.yaml", "access", "asana").decode() == after


def test_an_entry_with_values_takes_the_indentation_of_the_list() -> None:
    before = ADA + "access:\n   - slack\n"

    after = with_item(before.encode(), "hires/ada.yaml", "access", ENTRY).decode()

    assert after == before + '   - integration: asana\n     values: {TEAM_ID: "1"}\n'


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(ADA + "extra: {A: &a [slack]}\naccess: *a\n", id="alias"),
        pytest.param(ADA + "access: &a [slack]\nextra: {A: *a}\n", id="what an alias repeats"),
        pytest.param(ADA + "access: slack\n", id="no list"),
        pytest.param("- a list\n", id="no map"),
    ],
)
def test_impossible_insertion_is_left_to_a_person(before: str) -> None:
    with pytest.raises(NotWritable, match=r"hires/ada\.yaml"):
        with_item(before.encode(), "hires/ada.yaml", "access", "asana")


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        (ADA, "last_name", "King", ADA.replace("Lovelace", "King")),
        (ADA.replace("Lovelace", "'Lovelace' # née Byron"), "last_name", "King", ADA.replace("Lovelace", "King # née Byron")),
        (ADA + "access: [slack]\n", "end", date(2027, 6, 30), ADA + "end: 2027-06-30\naccess: [slack]\n"),
        (ADA + "phone:\n", "phone", "+49 1", ADA + 'phone: "+49 1"\n'),
        (ADA + "extra: {A: x}\n", "extra.B", "NO", ADA + 'extra: {A: x, B: "NO"}\n'),
        (ADA + "extra:\n  A: x\naccess: []\n", "extra.B", "z", ADA + "extra:\n  A: x\n  B: z\naccess: []\n"),
        (ADA + "access: []\n", "extra.B", "z", ADA + "extra: {B: z}\naccess: []\n"),
        (ADA + "extra:  # none\n", "extra.B", "z", ADA + "extra: {B: z}  # none\n"),
        (ADA + "manager: Grace Hopper\n", "manager", {"hire": "grace"}, ADA + "manager: {hire: grace}\n"),
        (ADA + "manager:\n  hire: alan\nphone: x\n", "manager", {"hire": "grace"}, ADA + "manager:\n  {hire: grace}\nphone: x\n"),
        (ADA + "position: >-\n  Long\n  text\nphone: x\n", "position", "Short", ADA + "position: Short\nphone: x\n"),
    ],
)  # fmt: skip
def test_a_changed_field_leaves_every_other_byte(before: str, key: str, value: Any, after: str) -> None:
    assert with_field(before.encode(), "hires/ada.yaml", key, value).decode() == after


def test_files_are_written_with_the_mode_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "hires").mkdir()
    ada = tmp_path / "hires/ada.yaml"
    ada.write_text(ADA)
    ada.chmod(0o640)

    write_all(tmp_path, {"hires/ada.yaml": b"a", "hires/new/bob.yaml": b"b"}, {"hires/ada.yaml": ADA.encode()})

    assert ada.read_bytes() == b"a"
    assert ada.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "hires/new/bob.yaml").read_bytes() == b"b"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["ada.yaml", "bob.yaml", "hires", "new"]


def _all_of(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("what", ["changed", "there", "link", "folder", "renaming"])
def test_all_files_are_written_or_none(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hires = tmp_path / "hires"
    hires.mkdir()
    (hires / "ada.yaml").write_text(ADA)
    (hires / "zed.yaml").write_text("zed")
    match what:
        case "changed":
            (hires / "zed.yaml").write_text("somebody else's edit")
        case "there":
            (hires / "new.yaml").write_text("somebody else's")
        case "link":
            (hires / "new.yaml").symlink_to("/tmp/elsewhere.yaml")
        case "folder":
            (hires / "sub").write_text("a file where a folder is wanted")
        case _:
            rename = Path.replace

            def replace(path: Path, target: Path) -> Path:
                if target.name == "zed.yaml" and path.read_text() == "new zed":
                    raise OSError(28, os.strerror(28), str(target))
                return rename(path, target)

            monkeypatch.setattr(Path, "replace", replace)
    before = _all_of(tmp_path)
    files = {"hires/ada.yaml": b"new ada", "hires/other/x.yaml": b"x", "hires/new.yaml": b"new"}
    if what == "folder":
        files["hires/sub/x.yaml"] = b"x"
    files["hires/zed.yaml"] = b"new zed"

    with pytest.raises(NotWritable):
        write_all(tmp_path, files, {"hires/ada.yaml": ADA.encode(), "hires/zed.yaml": b"zed"})

    assert _all_of(tmp_path) == before
    assert not (hires / "other").exists()


def test_written_file_is_a_valid_hire() -> None:
    text = hire_text({"email": "x@example.com", "first_name": "X", "last_name": "", "access": [ENTRY]})

    assert Hire.model_validate(read(text.encode(), "hires/x.yaml").data).access[0].integration == "asana"


def test_nothing_is_left_where_writing_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_all(tmp_path, {"hires/ada.yaml": b"email: ada@example.com\n"}, {})
    assert list(tmp_path.rglob("*")) == []
