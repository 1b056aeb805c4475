"""Write files: hires', a new one or an edit of an existing one, and those of access reviews; all files or none.

All values come from outside, and are data. An existing file keeps every byte outside the edit (`yaml_edit`). Files are
written beside their places and renamed, after verifying that each is unchanged since it was read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.intake.yaml_edit import block_item, flow, with_value
from reconciler.model.config_files import ANSWERED
from reconciler.model.errors import NotWritable, not_written
from reconciler.model.hire import EXTRA, Hire
from reconciler.repository.replacing import settle, written_beside
from reconciler.repository.reviews import REVIEWS, review_in

_UNSAFE = re.compile(r"[^\w.+-]+")

LONGEST = 100
"""Characters of a stem."""

ORDER = tuple(Hire.model_fields)
"""The keys of a hire's file, in the order in which they are written."""


def stem_of(name: str) -> str:
    """Make a new file's stem from a name in an address or a source; empty if no character fits.

    Letters, digits, `.`, `_`, `+` and `-` stay, and what leads to another folder does not (docs/hires.md, "Hire").
    """
    return _UNSAFE.sub("-", unicodedata.normalize("NFC", name)).strip(".-+")[:LONGEST]


def hire_text(hire: Mapping[str, Any], head: str = "") -> str:
    """Return a new hire's file, below the lines of `head`; keys such as `extra.LOGIN` go under `extra`.

    Raises NotWritable for text that is not Unicode.
    """
    own = {key: value for key, value in hire.items() if not key.startswith(EXTRA)}
    extra = {key.removeprefix(EXTRA): value for key, value in hire.items() if key.startswith(EXTRA)}
    hire = {**own, "extra": extra} if extra else own
    lines = []
    for key in sorted(hire, key=ORDER.index):
        if key == "access" and hire[key]:
            lines += ["access:", *(line for item in hire[key] for line in block_item(item, 2))]
        else:
            lines.append(f"{key}: {flow(hire[key])}")
    return head + "".join(f"{line}\n" for line in lines)


def with_field(raw: bytes, file: str, key: str, value: Any) -> bytes:
    """Set one key of a hire's file (`end`, `extra.LOGIN`). Raises like `yaml_edit.with_value`."""
    first, dot, rest = key.partition(".")
    return with_value(raw, file, (first, rest) if dot else (first,), value, order=ORDER)


def write_all(root: Path, files: Mapping[str, bytes], before: Mapping[str, bytes]) -> None:
    """Write files under the root, all or none; `before` is the content that existing ones must still have.

    Raises NotWritable, with nothing changed, where a file is not as it was read any more, where one is there that
    `before` does not have, where a link leads elsewhere, and where one cannot be written.
    """
    written: dict[Path, Path] = {}
    made: list[Path] = []
    replaced: list[tuple[Path, bytes | None]] = []
    path = root
    try:
        for name, content in files.items():
            path = root / name
            written[path] = _beside(root, path, content, made)
        for name in files:
            _unchanged(root / name, name, before.get(name))
        for name in files:
            path = root / name
            written[path].replace(path)
            del written[path]
            replaced.append((path, before.get(name)))
    except BaseException as error:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
        for place, old in reversed(replaced):
            if old is None:
                place.unlink()
            else:
                _beside(root, place, old, []).replace(place)
        for folder in reversed(made):
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise NotWritable(not_written(path, error)) from None
        raise
    for folder in {place.parent for place, _ in replaced}:
        settle(folder)


def _beside(root: Path, path: Path, content: bytes, made: list[Path]) -> Path:
    """Write a file beside its final place, with the final mode; `made` gets the folders made."""
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise NotWritable(f"{path}: a link stands there: write to the file that it leads to, or take it away")
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    made += reversed(missing)
    return written_beside(path, content)


def _unchanged(path: Path, name: str, before: bytes | None) -> None:
    if before is None:
        if path.exists():
            raise NotWritable(f"{name} is there already: nothing was written")
    elif not path.is_file() or path.read_bytes() != before:
        raise NotWritable(f"{name} is not as it was read, somebody edits it: nothing was written; run it again")


def path_of(period: str, integration: str, manager: str | None = None) -> str:
    """Return the path of an integration's review, of everybody or of a manager's people."""
    folder = f"{period}/{manager}" if manager is not None else period
    return f"{REVIEWS}/{folder}/{integration}.yaml"


def review_text(data: Mapping[str, Any], path: str) -> bytes:
    """Return the file's text, from data without its digest."""
    whole = _fit(data)
    digest = review_in("".join(_lines(whole, path, "")).encode(), path).digest
    return "".join(_lines(whole, path, digest)).encode()


def _lines(data: Mapping[str, Any], path: str, digest: str) -> Iterator[str]:
    name = path.removeprefix(f"{REVIEWS}/").removesuffix(".yaml").replace("/", " of ")
    yield f"# Access review {name}. Put `keep` or `remove` behind each `decision:`, with a reason\n"
    yield "# where one helps, and commit: who commits a decision is its reviewer. Leave everything else as it is.\n"
    for key, value in data.items():
        if key != "lines":
            yield f"{key}: {flow(value)}\n"
    yield f"digest: {flow(digest)}\n"
    yield "lines:\n" if data["lines"] else "lines: []\n"
    for line in data["lines"]:
        yield from (f"{text}\n" for text in block_item({k: v for k, v in line.items() if k not in ANSWERED}, 2))
        yield from (f"    {key}:\n" for key in ANSWERED)


def _fit(value: Any) -> Any:
    """Replace lone surrogates, which no file can hold and some service sent, by question marks."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case Mapping():
            return {_fit(key): _fit(item) for key, item in value.items()}
        case list() | tuple():
            return [_fit(item) for item in value]
        case _:
            return value
