"""Records as the ledger has them, with the parts of an open run beside the record's own."""

from __future__ import annotations

from typing import Any

from reconciler.model.grant import Record
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
