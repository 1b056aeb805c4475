"""What a request asks of a directory, and how its answer is written. Knows nothing of connections."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from reconciler.model.errors import TransportError
from reconciler.model.value import Frozen
from reconciler.transports.address import Address
from reconciler.transports.messages import Items, RenderedRequest, Response, as_text

NO_SUCH_OBJECT = 32

STATUSES = {0: 200, NO_SUCH_OBJECT: 404, 68: 409, 20: 409, 49: 401, 48: 401, 50: 403, 51: 503, 52: 503, 3: 429, 11: 429}
"""By result code (RFC 4511, appendix A); every other one is 400."""

EVERYTHING = "objectClass=*"
"""The filter of a URL that has none."""

JSON = {"content-type": "application/json"}


class Search(Frozen):
    """A URL of a directory, taken apart (RFC 4516)."""

    dn: str
    attributes: tuple[str, ...]
    scope: str
    filter: str

    @classmethod
    def of(cls, address: Address) -> Search:
        """Take a URL apart. Raises TransportError for what no directory can be asked."""
        dn, *rest = (unquote(part) for part in address.target.removeprefix("/").split("?"))
        names, scope, wanted, *extensions = [*rest, "", "", ""][: max(3, len(rest))]
        if scope not in ("", "base", "one", "sub") or any(extensions):
            raise TransportError("the URL is no directory's: ldaps://host/dn?attributes?scope?filter", left=False)
        listed = tuple(name for name in names.split(",") if name)
        wanted = wanted or EVERYTHING
        return cls(dn, listed, scope or "base", wanted if wanted.startswith("(") else f"({wanted})")


class Entries(Items):
    """Entries of a directory."""

    def add(self, found: Iterable[tuple[str | None, Any]]) -> None:
        """Add entries; a referral is none. Sets `full` once the limit is passed."""
        for dn, values in found:
            if dn is not None and not self.full:
                self.keep({"dn": dn, **{name: _shown(each) for name, each in values.items()}})

    def answer(self) -> Response:
        """Return the answer of a search that succeeded."""
        return Response(200, JSON, str(self).encode(errors="replace"), self.full, decided=True, directory=True)


def _shown(values: Sequence[bytes]) -> Any:
    shown = [as_text(value) for value in values]
    return shown[0] if len(shown) == 1 else shown


def ended(request: RenderedRequest, code: int, message: str, *, login: bool = False) -> Response:
    """Return the answer of what is no search, or of one that failed: only "no such object" answers a check.

    Of a `login` that is refused it does not: some directories say so of a login that they do not know.
    """
    content = json.dumps({"result": code, "message": message}, ensure_ascii=False).encode(errors="replace")
    absent = code == NO_SUCH_OBJECT
    decided = absent and not login if request.reads else None
    status = 401 if absent and login else STATUSES.get(code, 400)
    return Response(status, JSON, content, decided=decided, directory=True)


def attributes(given: Mapping[str, Any] | None) -> list[tuple[str, list[bytes] | None]]:
    """Return attributes with their values as they travel; None stands for the whole attribute."""
    return [(name, _values(name, value) or None) for name, value in (given or {}).items()]


def _values(name: str, value: Any) -> list[bytes]:
    several = value if isinstance(value, list) else [value]
    return [_bytes(name, each) for each in several if each is not None]


def _bytes(name: str, value: Any) -> bytes:
    match value:
        case {"base64": str(encoded)}:
            try:
                return base64.b64decode(encoded, validate=True)
            except ValueError:
                raise TransportError(f"the base64 of {name} is none", left=False) from None
        case bool():
            return b"TRUE" if value else b"FALSE"
        case _ if name.lower() == "unicodepwd":
            return f'"{value}"'.encode("utf-16-le")
        case _:
            return str(value).encode(errors="replace")
