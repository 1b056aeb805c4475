"""Records as the ledger has them, with the parts of an open run beside the record's own; and manifests for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.grant import Record
from reconciler.model.manifest import Manifest
from reconciler.model.run import OpenRun
from reconciler.model.value import replace

_OF_RUN = {*OpenRun.__struct_fields__}


def but(record: Record, **values: Any) -> Record:
    """The record with these values, those of its open run included."""
    run = {name: value for name, value in values.items() if name in _OF_RUN}
    own: dict[str, Any] = {name: value for name, value in values.items() if name not in _OF_RUN}
    if run:
        own["open"] = replace(record.run, **run)
    return replace(record, **own)


def manifest(*lists: str, where: Mapping[str, Any] | None = None, **keys: Any) -> Manifest:
    """A manifest with a request in each of these lists, and a check that compares what is `where`."""
    call = {"url": "https://tool.example.com/users"}
    exists = {} if where is None else {"exists": {**call, "expected": "{{email}}", "where": where}}
    return Manifest.model_validate({**{name: [call] for name in lists}, **exists, **keys})
