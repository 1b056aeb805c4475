"""Judge answers: of checks (`verdict`), of requests (`failure`), for conditions (`condition_holds`).

docs/design/rules.md, "Exists", is this module's text. The answer is searched as it came, and where it is JSON also
decoded, written with and without blanks, and string by string: neither an escape nor spacing hides what is there. An
e-mail address has to stand alone. Letters, digits and `. + - _ %` always belong to an address; the other characters
that RFC 5322 allows belong to it only where a letter stands before them: `o'brien@x.com` is one address, and in
`'brien@x.com'` the quotes stand around it. `/ = ? | { }` always part: they do in URLs, and in no address that a service
hands out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.model.dn import parsed
from reconciler.model.request import Condition, Exists, Ready, Request, RequestOptions
from reconciler.model.scope import Scope, follow, steps, walk
from reconciler.model.verdict import Account, Cause, Missing, Present, Unknown, Verdict
from reconciler.requests.record import NOTHING, Compared, all_there, differences, find
from reconciler.requests.template import render_text, written
from reconciler.transports.messages import Response

_LATER = frozenset({408, 425, 429})

REFUSED = frozenset({401, 403, 407}) | _LATER
"""These say nothing about a person, whatever a manifest says: a wrong token is not an absent person."""

GONE = frozenset({404, 410})

LONGEST_CHARACTERS = 4_096
"""The longest text that becomes a pattern: a pattern of ten thousand addresses takes seconds to compile."""

_LOCAL = r"\w.+%\-\u0300-\u036f"
_WEAK = r"'!#$&*^`~"
_NAME, _HOST = rf"(?:[{_LOCAL}]|(?<=\w)[{_WEAK}])++", r"@[\w-]+(?:\.[\w-]+)*"
_ADDRESS = re.compile(_NAME + _HOST)
_MAYBE_ADDRESS = re.compile(f"{_NAME}(?P<host>{_HOST})?")
"""An address, or what could be the name of one: where no host follows, all of it is passed over in one go."""
_BEFORE = rf"(?<![{_LOCAL}@])(?<!\w[{_WEAK}])"
_AFTER = r"(?![\w\-@])(?!\.[\w-])(?!\\u)"
_BEGINS, _ENDS = re.compile(_BEFORE), re.compile(_AFTER)
_SEPARATORS = ((", ", ": "), (",", ":"), (", ", ":"), (",", ": "))


def verdict(exists: Exists, expected: str | None, answer: Response, compared: Compared = NOTHING) -> Verdict:
    """Return what a check's answer says of the account; `expected` is rendered, None if the manifest has none.

    `compared` are the values of `where`, `inactive`, `invited` and `absent`, rendered.
    """
    listed = exists.status_code or []
    reason = not_an_answer(exists, answer)
    if reason is not None:
        return Unknown(reason, cause=_cause(answer.status))
    if expected is not None and not expected.strip():
        return Unknown("expected came out empty: every answer would contain it")
    if compared.absent and all_there(answer.json(), compared.absent):
        return Missing(_stored(exists, answer, None))
    if answer.status in GONE and answer.status not in listed:
        return _absent(exists, answer, compared)
    found = True
    if expected is not None:
        text = answer.whole_text
        if text is None:
            return Unknown(f"answered {answer.status} with what is no text")
        found = (names if answer.directory else contains)(text, expected)
    if exists.compares:
        return _of_record(exists, expected, answer, compared, found=found)
    return Present(_stored(exists, answer, None)) if found else _absent(exists, answer, compared)


def _of_record(
    exists: Exists, expected: str | None, answer: Response, compared: Compared, *, found: bool
) -> Present | Missing | Unknown:
    """Judge the record in an answer, if the check has one; `found` is what the answer's text says."""
    content = answer.json()
    at = walk(content, exists.record or "")
    if at == []:
        return Missing(_stored(exists, answer, None))
    if at is None:
        if not found:
            return _absent(exists, answer, compared)
        what = f"nothing at record {exists.record}" if content is not None else "no JSON, where record is to be read"
        return Unknown(f"answered {answer.status} with what is expected, but {what}")
    account = find(at, exists, expected, names if answer.directory else contains, compared.inactive)
    if account is None or not (found or exists.match):
        return _absent(exists, answer, compared)
    if all_there(account, compared.inactive):
        state = Account.INACTIVE
    else:
        state = Account.INVITED if all_there(account, compared.invited) else Account.ACTIVE
    differs = differences(account, compared.where)
    return Present(_stored(exists, answer, account), account=state, differs=differs, record=account)


def _absent(exists: Exists, answer: Response, compared: Compared) -> Missing | Unknown:
    """Judge an answer without the account. With `absent`, only an answer that says so counts."""
    if compared.absent:
        return Unknown(f"answered {answer.status} without the account, and not as absent says", lacks_account=True)
    return Missing(_stored(exists, answer, None))


def unready(ready: Ready, expected: str | None, answer: Response) -> str | None:
    """Return why a service is not ready to say that an account is absent; None if it answers as `ready` says."""
    reason = not_an_answer(ready, answer)
    if reason is not None:
        return reason
    if answer.status in GONE and answer.status not in (ready.status_code or []):
        return f"answered {answer.status}"
    if expected is not None and not _is_said(answer, expected):
        return f"answered {answer.status} without what is expected"
    return None


def failure(call: Request, answer: Response, expected: str | None = None) -> str | None:
    """Return why an answer is no success of the request; None if it is (docs/design/rules.md, "Execute").

    `expected` is a revocation's, rendered. A change that succeeded with an answer over the limit is not reported here:
    the client raises, because such a request may have taken effect.
    """
    if (reason := refusal(call, answer.status)) is not None:
        return reason
    if answer.truncated:
        return f"answered {answer.status} with more than {len(answer.content) >> 20} MiB"
    if expected is not None and not _is_said(answer, expected):
        return f"answered {answer.status} without what is expected"
    return None


def _is_said(answer: Response, expected: str) -> bool:
    text = answer.whole_text if expected.strip() else None
    return text is not None and contains(text, expected)


def refusal(call: RequestOptions, status: int) -> str | None:
    """Return why a status is no success of a request; None if it is."""
    if call.status_code is not None:
        return None if status in call.status_code else _unlisted(status, call.status_code)
    return None if 200 <= status < 300 or _is_let_pass(call, status) else f"answered {status}"


def _is_let_pass(call: RequestOptions, status: int) -> bool:
    """Whether a 4xx is no failure of this request. One that only says "not now" or "not you" always is."""
    return 400 <= status < 500 and not call.fail_when_4xx_response_code and status not in REFUSED


def _unlisted(status: int, listed: Iterable[int]) -> str:
    """Return why a status that `status_code` does not list is a failure."""
    return f"answered {status}, expected {', '.join(map(str, listed))}"


def condition_holds(condition: Condition, answer: Response, scope: Scope) -> bool:
    """Whether `continue_if` holds: the value at the path, as text, is the one wanted. Raises MissingVariable."""
    *parents, last = steps(condition.response_notation)
    holder = follow(answer.json(), parents)
    found = follow(holder, [last])
    if found is None and not (isinstance(holder, Mapping) and last in holder):
        return False
    return written(found) == render_text(condition.value, scope).text


def contains(text: str, expected: str) -> bool:
    """Whether a text contains what is expected. Addresses match as whole words, without case."""
    if text.isascii() and expected.isascii() and _ADDRESS.fullmatch(expected):
        found = _stands_alone(text, expected)
        if found or "\\" not in text:
            return found  # nothing in it is escaped: decoding it would show no other address
    pattern = _pattern(expected)
    return any(pattern.search(form) for form in _forms(text))


def names(text: str, expected: str) -> bool:
    """Whether a directory's answer contains what is expected: a DN is found as the DN that it is, however written."""
    if contains(text, expected):
        return True
    name = parsed(expected) if "=" in expected else None
    return bool(name) and any("=" in leaf and parsed(leaf) == name for leaf in _forms(text))


def _stands_alone(text: str, address: str) -> bool:
    """`_pattern` for the usual case, an address and nothing else.

    Compiling a pattern for each person costs more than all the rest of a check.
    """
    folded, address = text.lower(), address.lower()
    place = folded.find(address)
    while place >= 0:
        if _BEGINS.match(text, place) and _ENDS.match(text, place + len(address)):
            return True
        place = folded.find(address, place + 1)
    return False


_WAYS_OUT = (
    "first look whether `url` is right; where {status} means that nobody is there, write "
    "`fail_when_4xx_response_code: false`; where the text of the answer decides, add {status} to `status_code`"
)


def not_an_answer(exists: Exists | Ready, answer: Response) -> str | None:
    """Return why the check failed, if it did."""
    status, listed = answer.status, exists.status_code or []
    if answer.decided is False:
        return f"answered {status}"
    if status not in listed and answer.decided is None:
        answers_no = status in GONE and not exists.fail_when_4xx_response_code
        if listed and not answers_no:
            return _unlisted(status, listed)
        if status in REFUSED or status < 200 or 300 <= status < 400 or status >= 500:
            return f"answered {status}"
        if status >= 400 and exists.fail_when_4xx_response_code:
            return f"answered {status}" + (f"; {_WAYS_OUT.format(status=status)}" if status in GONE else "")
    return f"answered {status} with more than 1 MiB" if answer.truncated else None


def _cause(status: int) -> Cause | None:
    """Return what a failed check's status says about who has to do something."""
    if status >= 500 or status in _LATER:
        return Cause.BUSY
    return Cause.INITIAL_DATA if status == 401 else None


_RECORD = "record."


def _stored(exists: Exists, answer: Response, record: Any) -> dict[str, Any]:
    """Return what `store_data` saves of an answer; missing values are left out.

    `record.PATH` starts at the record only where the check has one: ChiefOnboarding's manifests may mean a key.
    """
    found = {
        name: walk(record, path.removeprefix(_RECORD))
        if exists.compares and path.startswith(_RECORD)
        else answer.at(path)
        for name, path in exists.store_data.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _pattern(expected: str) -> re.Pattern[str]:
    """Return the expected text as a pattern: an address in it stands alone and without case, the rest is exact."""
    if len(expected) > LONGEST_CHARACTERS:
        return re.compile(re.escape(expected))
    parts, end = [], 0
    for match in _MAYBE_ADDRESS.finditer(expected):
        if match["host"]:
            parts += [re.escape(expected[end : match.start()]), _alone(match[0])]
            end = match.end()
    return re.compile("".join(parts) + re.escape(expected[end:]))


def _alone(address: str) -> str:
    # ASCII only where it can be: without that, the Kelvin sign would be a `k`.
    return f"{_BEFORE}(?{'ai' if address.isascii() else 'i'}:{re.escape(address)}){_AFTER}"


def _forms(text: str) -> Iterator[str]:
    """Return the text as it came; if it is JSON, also decoded and written again, and each of its strings."""
    yield text
    try:
        content = json.loads(text.removeprefix("\ufeff"))
        for separators in _SEPARATORS:
            yield json.dumps(content, ensure_ascii=False, separators=separators)
    except (ValueError, RecursionError):
        return
    pending = [content]
    while pending:
        match pending.pop():
            case str(leaf):
                yield leaf
            case dict(members):
                pending += [*members, *members.values()]
            case list(items):
                pending += items
            case _:
                pass
