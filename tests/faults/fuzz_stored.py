"""Targets for `tests.faults.fuzz`: what is encrypted, git's objects, and what was parsed before."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from reconciler.model.errors import RepositoryError, SecretsError, SettingsError
from reconciler.repository.files import Reader
from reconciler.repository.git import trees
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import Tree
from reconciler.repository.hire_index import NOTHING, HireCache, HireSummary, SavedHires
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import InitialData
from tests.faults.fuzz_samples import HIRE
from tests.faults.fuzz_target import Target, can_be_written
from tests.faults.hostile import altered, bombs, odd, spelled, spoiled, written
from tests.repo import GnupgHome
from tests.repository.objects import FOLDER, Objects
from tests.secrets.keys import SECRET, AgeKey, Files, Sops


class Sealed(Target):
    """Initial data that SOPS encrypted, altered."""

    name = "sops"
    what = "initial data encrypted with SOPS: values, places, MAC, keys and rules altered"

    @contextmanager
    def open(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
            key = AgeKey()
            sops = Sops(home, key.identity)
            plain = {
                "TOKEN": SECRET,
                "number": 12,
                "nested": {"list": [1, SECRET, {"a": True}]},
                "x_unencrypted": "1.50",
            }
            rules = (), ("--encrypted-regex", "^TOKEN$"), ("--unencrypted-regex", "^n")
            raws = [
                sops.encrypt(written(plain, as_json=kind == "json"), "--age", key.recipient, *rule, kind=kind)
                for kind in ("yaml", "json")
                for rule in rules
            ]
            samples = [json.loads(raw) if raw.startswith(b"{") else yaml.safe_load(raw) for raw in raws]
            inside = [sample["sops"] for sample in samples]
            words = [
                "sops", "mac", "lastmodified", "age", "pgp", "kms", "enc", "recipient", "fp", "key_groups",
                "shamir_threshold", "mac_only_encrypted", "encrypted_regex", "unencrypted_regex", "encrypted_suffix",
                "unencrypted_suffix", "encrypted_comment_regex",
            ]  # fmt: skip
            wrong = altered(samples, words) | st.builds(
                lambda sample, info: {**sample, "sops": info}, st.sampled_from(samples), altered(inside, words)
            )
            pattern = st.builds(
                lambda sample, key, name, pattern: {
                    key: "x",
                    **sample,
                    "sops": {**_ruleless(sample["sops"]), name: pattern},
                },
                st.sampled_from(samples),
                st.sampled_from(["x", "a" * 40 + "!", "a" * 3000, "a b" * 30 + "!"]),
                st.sampled_from(["encrypted_regex", "unencrypted_regex", "encrypted_suffix"]),
                st.sampled_from(["^(a+)+$", "^(a|a)*$", "(a*)*b", r"^(\w+\s?)*$", "(" * 5000, "(a" * 400 + ")" * 400])
                | st.text("(a+)*$^|[]\\.{1,}?", max_size=30)
                | odd(),
            )
            as_json = spelled(wrong, as_json=True) | pattern.map(lambda data: written(data, as_json=True))
            as_yaml = spelled(wrong, as_json=False) | spoiled(st.sampled_from(raws))
            # What is JSON is YAML, too.
            self.examples = st.tuples(st.just("json"), as_json) | st.tuples(st.just("yaml"), as_json | as_yaml)
            before = dict(os.environ)
            os.environ.update(SOPS_AGE_KEY=key.identity, PATH="/nowhere")  # what sops itself makes of it is its own
            self._data = InitialData(Gnupg(home))
            try:
                yield
            finally:
                os.environ.clear()
                os.environ.update(before)

    def play(self, example: tuple[str, bytes]) -> None:
        kind, raw = example
        tree = Files({f"config/initial_data/acme.sops.{kind}": raw})
        _opened(self._data, tree)


def _ruleless(info: dict[str, Any]) -> dict[str, Any]:
    """A `sops` part without the rule that it has; two of them are refused before they are looked at."""
    return {name: value for name, value in info.items() if not name.endswith(("_regex", "_suffix"))}


def _opened(data: InitialData, tree: Files) -> None:
    """Initial data is read, or there is an error that names its file and holds nothing of it."""
    for look_at in (lambda: data.read(tree, "acme"), lambda: data.recipients(tree)):
        try:
            look_at()
        except SecretsError as error:
            can_be_written(str(error), without=SECRET)


class Encrypted(Target):
    """Initial data that GnuPG encrypted, altered, and what it may hold."""

    name = "gpg"
    what = "initial data encrypted with GnuPG: messages altered, and odd files inside"

    @contextmanager
    def open(self) -> Iterator[None]:
        home = GnupgHome()
        try:
            plain = json.dumps({"TOKEN": SECRET, "MORE": "x" * 300}).encode()
            raws = [home.encrypt(plain), home.encrypt(plain, armor=True)]
            inside = spelled(altered([{"TOKEN": SECRET, "N": 1}]), as_json=True) | bombs().filter(
                lambda raw: len(raw) < 9999
            )
            self.examples = st.tuples(
                st.booleans(), spoiled(st.sampled_from(raws)) | st.binary(max_size=200) | inside.map(home.encrypt)
            )
            self._data = InitialData(Gnupg(home.path))
            yield
        finally:
            home.close()

    def play(self, example: tuple[bool, bytes]) -> None:
        armored, raw = example
        tree = Files({f"config/initial_data/acme.json.{'asc' if armored else 'gpg'}": raw})
        _opened(self._data, tree)


NAMES = st.one_of(
    st.sampled_from(
        [b"ada.yaml", b"x.json", b"asana.yaml", b"\xff.yaml", b"a/b.yaml", b"..", b".git", b".", b"a\n.yaml"]
    ),
    st.binary(min_size=1, max_size=6).map(lambda name: name.replace(b"\0", b"x") + b".yaml"),
    st.binary(max_size=8).map(lambda name: name.replace(b"\0", b"x")),
)
MODES = st.sampled_from([0o100644, 0o100644, 0o100755, 0o120000, 0o160000, FOLDER, FOLDER, 0, 0o100600, 0o777777777])


class Commits(Target):
    """Trees, blobs and commits that git itself would not make."""

    name = "git"
    what = "git objects: odd trees, names, modes and times, damaged and missing objects, trees of the same tree"
    examples = st.tuples(
        st.lists(
            st.tuples(
                st.sampled_from(["blob", "tree", "tree", "missing", "bytes"]),
                st.lists(st.tuples(MODES, NAMES, st.integers(0, 9)), max_size=4),
                spoiled(st.sampled_from([written(HIRE, as_json=False), b"100644 x\0", b""])),
            ),
            min_size=1,
            max_size=8,
        ),
        st.sampled_from([1, 1, 1, 1, 1, 2, 2, 12]),
        st.sampled_from([b"1700000000 +0000"] * 3 + [b"99999999999999999 +9999", b"-99999999999 -9999", b"x", b""]),
        st.sampled_from([b"Ida <ida@example.com>"] * 3 + [b"\xff\x1b[2J <\xff>", b"<>"]) | st.binary(max_size=20),
    )

    @contextmanager
    def open(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees, "MOST", 20_000)  # so that it is soon refused
            root = Path(folder)
            (root / ".git/objects").mkdir(parents=True)
            (root / ".git/refs").mkdir()
            (root / ".git/HEAD").write_text("ref: refs/heads/main\n")
            (root / ".git/config").write_text("[core]\nrepositoryformatversion = 0\nbare = false\n")
            self._objects, self._checkout = Objects(root), Checkout.open(root)
            self._reader = Reader()
            self._good = self._checkout.at(self._objects.commit(self._objects.root(self._objects.tree())))
            yield

    def play(self, example: tuple[list[tuple[str, list[tuple[int, bytes, int]], bytes]], int, bytes, bytes]) -> None:
        made, times, when, author = example
        objects = self._objects
        ids = [objects.put("blob", b"x")]
        for kind, entries, content in made:
            if kind == "tree":
                tree = objects.tree(*((mode, name, ids[which % len(ids)]) for mode, name, which in entries))
                for _ in range(times - 1):
                    tree = objects.tree(*((FOLDER, b"%d" % number, tree) for number in range(10)))
                ids.append(tree)
            else:
                ids.append(
                    b"\1" * 20 if kind == "missing" else objects.put("tree" if kind == "bytes" else "blob", content)
                )
        config = (FOLDER, b"config", ids[-2 % len(ids)])
        roots = [objects.root(ids[-1]), ids[-1], objects.root(ids[-1], config)]
        for root in roots:
            try:
                commit = self._checkout.at(objects.commit(root, when, author or b"x"))
            except RepositoryError as error:
                can_be_written(str(error))
                continue
            for look_at in (self._changes, self._load):
                try:
                    look_at(commit)
                except (RepositoryError, SettingsError) as error:
                    for line in str(error).splitlines():
                        can_be_written(line)

    def _changes(self, commit: Tree) -> None:
        self._checkout.changed(self._good, commit)
        can_be_written(self._checkout.commit(commit.revision).author)

    def _load(self, commit: Tree) -> None:
        for problem in self._reader.load(commit).problems:
            can_be_written(str(problem))


REVISION = f"{1:040}"
KEPT = [
    HireSummary(
        path=f"hires/h{number}.yaml",
        blob=f"{number:040}",
        valid=True,
        email=f"h{number}@example.com",
        sequences=("engineering",),
        references=("bob",),
    )
    for number in range(3)
]


class Cache(Target):
    """What was parsed before, as it stands on the disk."""

    name = "cache"
    what = "the parse cache on the disk, damaged"

    @contextmanager
    def open(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            self._file = Path(folder, "hires.cache")
            HireCache(self._file).save(REVISION, KEPT)
            self._whole = self._file.read_bytes()
            digest, _, content = self._whole.partition(b"\n")
            self.examples = st.one_of(
                spoiled(st.just(self._whole)),
                spoiled(st.just(content)).map(lambda raw: digest + b"\n" + raw),
                st.binary(max_size=200),
                bombs(),
            )
            yield

    def play(self, example: bytes) -> None:
        self._file.write_bytes(example)
        found = HireCache(self._file).load()
        whole = SavedHires(REVISION, {summary.path: summary for summary in KEPT})
        assert found == (whole if example == self._whole else NOTHING)


TARGETS: tuple[Target, ...] = (Sealed(), Encrypted(), Commits(), Cache())
