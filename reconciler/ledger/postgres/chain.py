"""Append lines to the history in one statement of PostgreSQL.

Members wait for each other at the end of the history, which is locked until the commit. So the server computes the
digests, and the statement is sent together with the commit: no member waits for another one's turn on its processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.ledger.chain import END
from reconciler.ledger.reading import microseconds, without_nul

__all__ = ["APPEND", "appended"]

_JSON = ("approved_by", "data")
_COLUMNS = {
    "at": "bigint",
    **dict.fromkeys(("hire", "access", "integration", "event", "revision", "author", "detail", "granted_in"), "text"),
    **dict.fromkeys(_JSON, "text"),
    "salt": "bytea",
    "content": "text",
    "code": "text",
}
_NAMES = ", ".join(_COLUMNS)
_LISTS = ", ".join(f"%({name})s::{kind}[]" for name, kind in _COLUMNS.items())
_VALUES = ", ".join(f"{name}::json" if name in _JSON else name for name in _COLUMNS)

APPEND = f"""
WITH RECURSIVE noted AS (SELECT convert_from(value, 'UTF8') AS note FROM meta WHERE name = '{END}' FOR UPDATE),
chain (place, digest) AS (
  SELECT 0::bigint, coalesce((SELECT split_part(note, ' ', 2) FROM noted), '')
  UNION ALL
  SELECT place + 1, encode(sha256(
    convert_to(digest || chr(10), 'UTF8') || substr(%(contents)s::bytea, (64 * place + 1)::integer, 64)), 'hex')
  FROM chain WHERE place < %(count)s
), told AS (
  INSERT INTO events ({_NAMES}, digest)
  SELECT {_VALUES}, digest FROM unnest({_LISTS}) WITH ORDINALITY AS line ({_NAMES}, place) JOIN chain USING (place)
  ORDER BY place
)
INSERT INTO meta (name, value)
SELECT '{END}', convert_to(
  coalesce((SELECT split_part(note, ' ', 1)::bigint FROM noted), 0) + place || ' ' || digest, 'UTF8')
FROM chain WHERE place = %(count)s
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
"""The lines get their ids in their order, and after those of the lines before, because the end is locked first.

A content's digest has 64 characters: substrings of bytes are found without counting characters.
"""


def appended(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of the statement for salted lines."""
    values = {name: [_value(line[name]) for line in lines] for name in _COLUMNS}
    values["at"] = [microseconds(line["at"]) for line in lines]
    for name in _JSON:
        values[name] = [None if line[name] is None else json.dumps(line[name]) for line in lines]
    return {**values, "count": len(lines), "contents": "".join(line["content"] for line in lines).encode()}


def _value(value: Any) -> Any:
    return without_nul(str(value)) if isinstance(value, str) else value
