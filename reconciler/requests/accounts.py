"""Whose account a check means, compared as a service may compare it.

See docs/design/rules.md, "One account, one hire". Nothing is resolved and no secret is read: what initial data gives is
the same for all grants of a service.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.model.dn import escaped, parsed
from reconciler.model.errors import MissingVariable
from reconciler.model.hire import NamedChoice
from reconciler.model.manifest import Manifest
from reconciler.model.scope import HIRE_NAMES, Layer, Scope
from reconciler.model.template import roots
from reconciler.model.text import folded
from reconciler.model.value import replace
from reconciler.requests.template import render_data, render_text, written


def told_by_address(manifest: Manifest) -> bool:
    """Whether two hires' checks can mean one account only if the hires have one address."""
    exists = manifest.exists
    return exists is None or not exists.expected or "email" in roots(exists.expected)


def account(manifest: Manifest, service: str, layers: Iterable[Layer]) -> str | None:
    """Return which account of a service a check means, with the values of a grant or of the ledger in `layers`.

    None where `expected` has nothing of the hire or its entry, where a value is missing, and where the account is told
    by what a service's answer gave.
    """
    exists = manifest.exists
    if exists is None or not exists.expected:
        return None
    used = roots([exists.url, exists.expected, exists.data])
    apart = [name for name in manifest.identity if name not in used]  # what a header alone says
    values = _values({*used, *apart}, layers)
    own = {*HIRE_NAMES, *(field.id for field in manifest.form), *(info.id for info in manifest.extra_user_info)}
    if not values.keys() & roots(exists.expected) or used & (own - values.keys() | manifest.stored | {"responses"}):
        return None
    scope = Scope((Layer("compared", values),), used - values.keys())
    try:
        asked = [render_text(text or "", scope).text for text in (exists.url, exists.expected)]
        asked.append(render_data(exists.data, scope))
    except MissingVariable:  # a path into a value that has no such part
        return None
    told = [service, *asked, exists.record or "", exists.match or "", *(values.get(name) for name in apart)]
    return json.dumps(told, sort_keys=True) if asked[1] else None


def _values(used: Iterable[str], layers: Iterable[Layer]) -> dict[str, Any]:
    layers = tuple(layers)
    found = ((name, next((it for each in layers if (it := each.values.get(name)) is not None), None)) for name in used)
    return {name: as_compared(value) for name, value in found if value is not None}


def layers_as_compared(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return a grant's values as they are compared."""
    return tuple(
        replace(layer, values={name: as_compared(value) for name, value in layer.values.items()}) for layer in layers
    )


def as_compared(value: Any) -> Any:
    """Return what all spellings of a value share: a number is the text that it is sent as, a list has no order."""
    match value:
        case None | "":
            return value
        case str():
            return folded(_as_name(value))
        case NamedChoice():
            return folded(value.name)
        case list():
            return sorted(map(as_compared, value), key=written)
        case Mapping():
            return {key: as_compared(item) for key, item in value.items()}
        case _:
            return folded(written(value))


def _as_name(text: str) -> str:
    """Return a DN as all ways to write it share it; any other text as it is."""
    name = parsed(text) if "=" in text else None
    return ",".join("+".join(sorted(f"{of}={escaped(it)}" for of, it in part)) for part in name) if name else text
