"""Begin a manifest from a service's description: proposals, each with the operation that it comes from.

It is a file to be edited. Where nothing fits it says so, rather than to propose something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.gallery.description import PEOPLE, Description, Operation

ASKED_WITH = (
    "email",
    "mail",
    "email_address",
    "username",
    "user",
    "login",
    "filter_term",
    "filter",
    "search",
    "query",
    "q",
)
ADDRESSES = ("email", "mail", "primaryemail", "emailaddress", "email_address", "useremail", "username", "login")
MOST_OTHERS = 4

_VALUES = (
    (re.compile(r"(primary_?)?e?mail(_?address)?|user_?email|invite_?email"), "{{email}}"),
    (re.compile(r"(user_?name|login|handle)"), "{{email}}"),
    (re.compile(r"(first|given)_?name"), "{{first_name}}"),
    (re.compile(r"(last|family|sur)_?name|surname"), "{{last_name}}"),
    (re.compile(r"(full|display|real)?_?name"), "{{first_name}} {{last_name}}"),
    (re.compile(r"(job)?_?title|position"), "{{position}}"),
    (re.compile(r"department"), "{{department}}"),
    (re.compile(r".*role(_?id)?s?"), "{{ROLE}}"),
)


def first_manifest(description: Description) -> str:
    """Return the manifest's text."""
    return "\n".join(_Writer(description).lines()) + "\n"


class _Writer:
    def __init__(self, description: Description) -> None:
        self._description = description
        self._settings: dict[str, str] = {}
        """Parameters of paths that are the same for everybody, by the name of their variable."""
        self._roles = False
        self._stores_id = False

    def lines(self) -> Iterator[str]:
        described = self._description
        body = [*self._exists(), "", *self._execute(), "", *self._change("update"), "", *self._change("revoke"), ""]
        yield f"# {' '.join(described.title.split())}: accounts"
        version = f", version {described.version}" if described.version else ""
        yield f"# Begun from its description{version}. Every line is a proposal: compare it with the"
        yield "# documentation of the operation over it, and run `reconcile try`."
        yield f"name: {_text(described.title)}"
        yield ""
        if self._roles:
            yield "form:"
            yield "  - {id: ROLE, name: Role, type: input}        # a choice, with the roles as items, is better"
            yield ""
        yield from body
        yield from self._sent_with()

    def _exists(self) -> Iterator[str]:
        lists = self._description.people("GET", one=False)
        ones = self._description.people("GET", one=True)
        asked = [(each, name) for each in lists if (name := _asked_with(each)) is not None]
        named = [each for each in ones if _by_name(each)]
        listing = next((each for each in lists if _items(each)[0] is not None), lists[0] if lists else None)
        if asked:
            operation, name = asked[0]
            address = _address(_items(operation)[1]) or "email"
            value = f'{address} eq "{{{{email}}}}"' if name.lower() == "filter" else "{{email}}"
            yield from _headed("exists", operation, [each for each, _ in asked[1:]])
            yield f"  url: {_text(f'{self._url(operation)}?{name}={value}')}"
            yield from self._record(operation)
        elif named or (ones and not lists):
            operation, *others = named or ones
            yield from _headed("exists", operation, others)
            url = self._url(operation, of_person="{{email}}")
            yield f"  url: {_text(url)}        # if it can be asked with an address"
            yield '  expected: "{{email}}"'
            yield "  fail_when_4xx_response_code: false"
        elif listing is not None:
            yield from _headed("exists", listing, [each for each in lists if each is not listing])
            yield "  # no operation was found that asks for one person: the pages of all are read until they are found"
            url = self._url(listing)
            yield f"  url: {_text(url)}"
            yield from self._record(listing)
            paging = list(_paging(listing, url))
            yield "  pages:" if paging else "  # pages: how to get to the next page was not found"
            yield from (f"    {line}" for line in paging)
        else:
            yield f"# exists: not found: no GET whose path ends with {', '.join(PEOPLE[:4])} or the like"
            return
        if listing is not None:
            yield from self._listing(listing)
        else:
            yield "  # list: not found"

    def _record(self, operation: Operation) -> Iterator[str]:
        where, item = _items(operation)
        address = _address(item)
        nowhere = (
            "        # the description names no address in the answer" if where is not None and not address else ""
        )
        yield f'  expected: "{{{{email}}}}"{nowhere}'
        if where is None:
            return
        yield f"  record: {where or _EMPTY}"
        if address is not None:
            yield f"  match: {address}"
        if (role := next((name for name in item if name.lower() == "role"), None)) is not None:
            self._roles = True
            yield f'  where: {{{role}: "{{{{ROLE}}}}"}}'
        number = next((name for name in item if name.lower() in ("id", "gid", "uuid", "user_id", "userid")), None)
        if number is not None:
            self._stores_id = True
            yield f"  store_data: {{ACCOUNT_ID: record.{number}}}"

    def _listing(self, operation: Operation) -> Iterator[str]:
        where, item = _items(operation)
        url = self._url(operation)
        yield f"  # {operation}"
        yield "  list:"
        yield f"    url: {_text(url)}"
        yield f"    data_from: {where or _EMPTY}" if where is not None else '    data_from: ""        # not found'
        yield f"    match: {_address(item) or 'email        # not found'}"
        paging = list(_paging(operation, url))
        yield from (f"    {line}" for line in paging)
        if not paging:
            yield "    # how to get to the next page was not found"

    def _execute(self) -> Iterator[str]:
        found = self._description.people("POST", one=False)
        invites = [each for each in self._description.operations if each.method == "POST" and _invites(each)]
        if not (found or invites):
            yield "# execute: not found: no POST whose path ends with users, members, invitations or the like"
            return
        operation, *others = [*found, *invites]
        yield from _headed("execute", operation, others)
        yield f"  - url: {_text(self._url(operation))}"
        yield f"    status_code: [{operation.status}]"
        yield "    data:"
        yield from (f"      {line}" for line in self._data(operation))

    def _data(self, operation: Operation) -> Iterator[str]:
        written = 0
        for name in operation.body:
            value = next((text for pattern, text in _VALUES if pattern.fullmatch(name.lower())), None)
            if value is None and name not in operation.required:
                continue
            self._roles |= value == "{{ROLE}}"
            yield f"{name}: {_text(value)}" if value else f'{name}: ""        # required: write what the service wants'
            written += 1
        if not written:
            yield 'email: "{{email}}"        # the description says nothing of what is sent'

    def _change(self, word: str) -> Iterator[str]:
        methods = ("PATCH", "PUT") if word == "update" else ("DELETE",)
        found = self._description.people(*methods, one=True)
        if not found:
            yield f"# {word}: not found: no {' or '.join(methods)} of one of the people"
            return
        operation, *others = found
        yield f"# {operation}"
        yield from (f"# or: {each}" for each in others[:MOST_OTHERS])
        if word == "update" and not self._roles:
            yield "# update: only where something of an account can differ from what git wants: give exists a `where`"
            return
        person = "{{ACCOUNT_ID}}" if self._stores_id else "{{email}}"
        yield f"{word}:"
        yield f"  - url: {_text(self._url(operation, of_person=person))}"
        yield f"    method: {operation.method}"
        yield f"    status_code: [{operation.status}]"
        if word == "update":
            yield "    data:"
            yield from (f"      {line}" for line in self._data(operation))

    def _url(self, operation: Operation, of_person: str | None = None) -> str:
        path = operation.path
        for place, name in enumerate(operation.parameters):
            last = operation.of_one and place == len(operation.parameters) - 1
            if last and of_person is not None:
                path = path.replace(f"{{{name}}}", of_person)
                continue
            variable = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "SETTING"
            self._settings[variable] = name
            path = path.replace(f"{{{name}}}", f"{{{{{variable}}}}}")
        return f"{self._description.base}{path}"

    def _sent_with(self) -> Iterator[str]:
        schemes = self._description.security
        headers: dict[str, str] = {}
        secrets: list[str] = []
        for scheme in schemes:
            headers, secrets = _credentials(scheme)
            if headers:
                break
        if not headers:
            yield "# how requests are authorized was not found"
            headers, secrets = {"Authorization": "Bearer {{TOKEN}}"}, ["TOKEN"]
        yield "headers:"
        yield "  Content-Type: application/json"
        yield from (f"  {name}: {_text(value)}" for name, value in headers.items())
        yield ""
        yield "initial_data_form:"
        yield from (f"  - {{id: {name}, name: {name.capitalize()}}}" for name in secrets)
        for variable, name in self._settings.items():
            yield f"  - {{id: {variable}, name: {_text(name)}, secret: false}}"


_EMPTY = '""'


def _headed(key: str, operation: Operation, others: list[Operation]) -> Iterator[str]:
    yield f"# {operation}"
    yield from (f"# or: {each}" for each in list(dict.fromkeys(others))[:MOST_OTHERS])
    yield f"{key}:"


def _invites(operation: Operation) -> bool:
    return operation.collection in ("invitations", "invites", "invite", "user_invitations") and not operation.of_one


def _by_name(operation: Operation) -> bool:
    """Whether one person is asked for by what may be an address, not by a number."""
    return any(word in operation.parameters[-1].lower() for word in ("mail", "name", "login", "handle"))


def _folded(names: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): name for name in names}


def _items(operation: Operation) -> tuple[str | None, Mapping[str, Any]]:
    """Return the path to the people in an answer, and the properties of one of them; None where there is no list."""
    answer = operation.answer
    if "items" in answer:
        return "", answer["items"].get("properties", {})
    lists = {name: each for name, each in answer.get("properties", {}).items() if "items" in each}
    words = [*PEOPLE, "data", "results", "result", "items", "entries", "resources", "values", "value", "list"]
    for name in sorted(lists, key=lambda each: words.index(each.lower()) if each.lower() in words else len(words)):
        return name, lists[name]["items"].get("properties", {})
    return None, answer.get("properties", {})


def _address(item: Mapping[str, Any]) -> str | None:
    """Return the path to the address in a person's record."""
    known = _folded(item)
    for word in ADDRESSES:
        if word in known:
            return known[word]
    for name, each in item.items():
        inner = each.get("properties") if isinstance(each, dict) else None
        if isinstance(inner, dict) and name.lower() in ("user", "profile", "member", "account", "attributes"):
            found = _address(inner)
            if found is not None:
                return f"{name}.{found}"
    return None


def _asked_with(operation: Operation) -> str | None:
    """Return the query parameter with which a collection can be asked for one person."""
    known = _folded(operation.query)
    for word in ASKED_WITH:
        if word in known:
            parameter = operation.query[known[word]]
            schema = parameter.get("schema") if isinstance(parameter.get("schema"), dict) else parameter
            if "enum" not in schema:
                return known[word]
    return None


def _paging(operation: Operation, url: str) -> Iterator[str]:
    """Return the lines that say how to get to the page after `url`, if names say so."""
    query, answer = _folded(operation.query), operation.answer.get("properties", {})
    paths: dict[str, str] = {}
    for name, each in answer.items():
        parts = {name: each, **{f"{name}.{key}": inner for key, inner in (each.get("properties") or {}).items()}}
        for path, part in parts.items():
            address = next((key for key in ("uri", "url", "href") if key in (part.get("properties") or {})), None)
            paths.setdefault(path.rpartition(".")[2].lower(), f"{path}.{address}" if address else path)
    after = next((query[word] for word in ("after", "starting_after", "after_id") if word in query), None)
    following = next((paths[word] for word in _NEXT if word in paths), None)
    token = next((paths[word] for word in _TOKENS if word in paths), None)
    goes_to = next((query[word] for word in _TOKENS_TO if word in query), None)
    if "link" in operation.answer_headers:
        yield "next_page_from: header:Link"
    elif "has_more" in paths and after is not None:
        where, _ = _items(operation)
        yield f"next_page_from: {{more: {paths['has_more']}, parameter: {after}, from: {where or 'data'}.-1.id}}"
    elif "startindex" in query:
        yield f"count_up: {{parameter: {query['startindex']}, first: 1, step: 100, total_from: totalResults}}"
    elif token is not None and goes_to is not None:
        yield f"next_page_token_from: {_text(token)}"
        yield f"next_page: {_text(f'{url}?{goes_to}={{{{NEXT_PAGE_TOKEN}}}}')}"
    elif following is not None:
        yield f"next_page_from: {_text(following)}"
    elif "offset" in query:
        yield f"count_up: {{parameter: {query['offset']}, first: 0, step: 100}}        # step: the items of a page"
    elif "page" in query:
        yield f"count_up: {{parameter: {query['page']}}}"


_NEXT = ("nextlink", "@odata.nextlink", "next_page", "next")
_TOKENS = ("nextpagetoken", "next_page_token", "next_cursor", "nextcursor", "cursor", "next_marker", "next_token")
_TOKENS_TO = ("pagetoken", "page_token", "cursor", "marker", "next_token", "nexttoken", "after")


def _credentials(scheme: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the headers that a scheme asks for, and the secrets in them."""
    kind, way = str(scheme.get("type", "")).lower(), str(scheme.get("scheme", "")).lower()
    if kind == "basic" or (kind == "http" and way == "basic"):
        return {"Authorization": "Basic {{USER}}:{{KEY}}"}, ["USER", "KEY"]
    if kind == "apikey" and scheme.get("in") == "header":
        return {str(scheme.get("name") or "Authorization"): "{{TOKEN}}"}, ["TOKEN"]
    if kind in ("http", "oauth2", "openidconnect"):
        return {"Authorization": "Bearer {{TOKEN}}"}, ["TOKEN"]
    return {}, []


def _text(text: str) -> str:
    """Write a text as YAML: without quotes where none are needed."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9 ._/:?=&{}-]*", text) and not re.search(r": |\{\{|^\{| #", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
