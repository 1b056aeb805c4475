"""Show what a request would send, as a plan does: its data with the values put in, without secrets.

Nothing here is sent. Secrets are `***`, generated values `(generated)`, and values that only a run can have stay
`{{name}}`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reconciler.model.errors import Blocked, MissingVariable
from reconciler.model.manifest import Call, Manifest, Request
from reconciler.model.scope import DEFERRED, Found, Scope
from reconciler.model.secret import MASK, Secret
from reconciler.model.value import value_class
from reconciler.requests.encode import FORM, structure
from reconciler.requests.render import headers_of
from reconciler.requests.template import render_text

__all__ = ["GENERATED", "shown_body"]

GENERATED = "(generated)"


@value_class
class _Masked(Scope):
    """A scope whose secrets are masked, and in which no value is missing."""

    generated: frozenset[str] = frozenset()

    def look_up(self, name: str) -> Found:
        try:
            found = Scope.look_up(self, name)
        except MissingVariable:
            return Found(DEFERRED, False, "nobody knows yet")
        if name in self.generated:
            return replace(found, value=GENERATED)
        secret = found.secret or isinstance(found.value, Secret)
        return replace(found, value=MASK, secret=False) if secret else found


def shown_body(call: Call, scope: Scope, manifest: Manifest) -> Any:
    """Return a request's data with its values put in, as a structure if it has one; None without a body."""
    if not isinstance(call, Request):
        return None
    data = call.data
    if data is None and not call.files:
        return None
    masked = _Masked(scope.layers, scope.deferred, saved=scope.saved, generated=frozenset(manifest.generated))
    kind = _kind(call, manifest)
    try:
        text = isinstance(data, str) and kind == FORM
        body = render_text(data, masked).text if text else structure(data, kind, masked)
    except Blocked as error:
        return f"({error})"
    if not call.files:
        return body
    attached = {field: f"(the file {name})" for field, name in call.files.items()}
    return {**(body if isinstance(body, dict) else {}), **attached}


def _kind(call: Request, manifest: Manifest) -> str:
    """Return the media type that the headers name, as far as they have no placeholders."""
    headers = {name.lower(): value for name, value in headers_of(call, manifest).items()}
    usual = FORM if call.cast_data_to_json else "application/json"
    return headers.get("content-type", usual).partition(";")[0].strip().lower()
