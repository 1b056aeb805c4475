"""What `make release` leaves in dist/: the same bytes twice, whoever builds it, with all that the program needs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from reconciler import __version__

ROOT = Path(__file__).parents[2]
NAME = f"access_reconciler-{__version__}"


def tracked() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def build(folder: Path, *, umask: int) -> Path:
    """`make release` in a copy of this checkout, with this environment's tools; its dist/."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
        shutil.copymode(ROOT / name, folder / name)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1764000000"}
    installed = [f"--old-file={sys.prefix}/{mark}" for mark in (".run", ".ready")]
    done = subprocess.run(
        ["make", "release", f"VENV={sys.prefix}", *installed],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        umask=umask,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


def test_make_release(tmp_path: Path) -> None:
    for module in ("build", "twine", "cyclonedx_py"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    first = build(tmp_path / "first", umask=0o022)
    second = build(tmp_path / "second", umask=0o077)
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in dist.iterdir()}
        for dist in (first, second)
    ]
    built = {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", f"{NAME}.cdx.json", f"{NAME}.lock"}
    assert digests[0].keys() == {*built, "verify.py", "verify.py.sha256"}
    assert digests[0] == digests[1]
    assert (first / "verify.py").read_bytes() == (ROOT / "reconciler" / "review" / "verify.py").read_bytes()
    assert (first / "verify.py.sha256").read_text() == f"{digests[0]['verify.py']}  verify.py\n"

    lock = (first / f"{NAME}.lock").read_text()
    assert lock.startswith((ROOT / "requirements.lock").read_text())
    alone = tmp_path / "alone.lock"
    alone.write_text(lock[lock.index("\naccess-reconciler==") :])
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "--require-hashes"]
    for said, code in ((alone.read_text(), 0), (re.sub("[0-9a-f]{64}", "0" * 64, alone.read_text()), 1)):
        alone.write_text(said)
        command = [*pip, "--force-reinstall", "--find-links", str(first), "--requirement", str(alone)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == code

    with zipfile.ZipFile(first / f"{NAME}-py3-none-any.whl") as wheel:
        inside = set(wheel.namelist())
    package = {name for name in tracked() if name.startswith("reconciler/")}
    assert package - inside == set(), "files that the program has, and its wheel has not"

    with tarfile.open(first / f"{NAME}.tar.gz") as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert set(tracked()) - names == set(), "files of the checkout that the source archive has not"
    assert {(item.mtime, item.uid, item.gid, item.uname, item.gname) for item in members} == {
        (1764000000, 0, 0, "", "")
    }

    bill = json.loads((first / f"{NAME}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", __version__)
    locked = {
        line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0].isalnum()
    }
    assert {component["name"] for component in bill["components"]} == locked
