"""Report two hires who mean one account, or may: an account belongs to one hire.

See docs/design/rules.md, "One account, one hire". Only services are looked at whose checks expect something else than
the hire's address: two hires with one address are an error of their files already.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from reconciler.model.errors import Problem, Severity
from reconciler.model.folding import folded, loosely_folded
from reconciler.model.grant import Grant
from reconciler.repository.desired import Desired
from reconciler.requests.accounts import account, told_by_address

__all__ = ["alike_addresses", "shared_accounts"]

MOST = 3
"""The most others that are named."""


def shared_accounts(desired: Desired) -> Iterator[Problem]:
    """Report each entry whose check means the account of another hire too."""
    services = desired.services.values()
    integrations = {
        name
        for service in services
        if not all(told_by_address(manifest) for _, manifest in service.manifests.values())
        for name in service.manifests
    }
    if not integrations:
        return
    meant: dict[str, list[Grant]] = defaultdict(list)
    for hire in desired.hires:
        if integrations.isdisjoint(desired.integrations(hire)):
            continue
        for grant in desired.grants(hire, once=True):
            if grant.hold is None and grant.manifest is not None and grant.integration in integrations:
                found = account(grant.manifest, grant.service, grant.layers)
                if found is not None:
                    meant[found].append(grant)
    for grants in meant.values():
        for grant in grants:
            others = [str(each.key) for each in grants if each.key.hire != grant.key.hire]
            if others:
                yield _shared(desired, grant, others)


def _shared(desired: Desired, grant: Grant, others: list[str]) -> Problem:
    message = f"access {grant.key.access}: its check means the same account as that of {_some(others)}"
    if grant.origin is None:
        file, _, line = grant.source.rpartition(":")
        place: tuple[str, int | None] = file, int(line)
    else:
        loaded = desired.hires[grant.key.hire]
        place = loaded.path, loaded.document.line(("sequences",))
    return Problem(*place, f"{message}: an account belongs to one hire")


def alike_addresses(desired: Desired) -> Iterator[Problem]:
    """Warn of addresses that differ by a tag, or by dots before the @, alone: many providers deliver both to one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for hire in desired.hires:
        file = desired.hires.file(hire)
        assert file is not None
        if file.email is not None:
            alike[loosely_folded(file.email)].append(hire)
    for hires in alike.values():
        if len(hires) > 1:
            yield from _warned(desired, hires)


def _warned(desired: Desired, hires: Iterable[str]) -> Iterator[Problem]:
    files = [desired.hires[hire] for hire in hires]
    for loaded in files:
        others = [
            f"{each.path} has {each.model.email}"
            for each in files
            if each is not loaded and folded(each.model.email) != folded(loaded.model.email)
        ]
        if others:
            message = f"email: {_some(others)}: a tag or dots before the @ alone do not make another person of it"
            yield Problem(loaded.path, loaded.document.line(("email",)), message, Severity.WARNING)


def _some(others: list[str]) -> str:
    more = f" and {len(others) - MOST} more" if len(others) > MOST else ""
    return ", ".join(others[:MOST]) + more
