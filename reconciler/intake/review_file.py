"""Write the file of a new access review: its decisions empty, with the digest of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.intake.yaml_edit import block_item, flow
from reconciler.model.config_files import ANSWERED
from reconciler.repository.reviews import REVIEWS, review_in

__all__ = ["path_of", "review_text"]


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
