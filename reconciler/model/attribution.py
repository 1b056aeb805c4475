"""Who gave a grant: the commit that made git want it, and what it says; who asked for it (docs/how-to/requests.md)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from reconciler.model.clock import LAST, stamp
from reconciler.model.text import Spoken
from reconciler.model.value import Frozen, replace


class Source(Spoken):
    """What vouches for an approval."""

    FORGE = "forge", "as the forge says"
    """The approver said so at the forge, in the pull request that was merged."""
    SIGNATURE = "signature", "who signed it"
    """The approver signed the commit that says so."""
    CLAIMED = "claimed", "not proven: only the commit's text says so"
    """Nothing but the text of a commit."""


class Approval(Frozen):
    """One person's approval."""

    name: str
    source: Source = Source.CLAIMED

    def as_json(self) -> dict[str, str]:
        """The object of docs/commands.md, "JSON"."""
        return {"name": self.name, "source": str(self.source)}

    @classmethod
    def from_json(cls, data: str | Mapping[str, str]) -> Approval:
        """Read what `as_json` returned, or the name alone, which earlier releases wrote."""
        return cls(data) if isinstance(data, str) else cls(data["name"], Source(data["source"]))


class Attribution(Frozen):
    """The commit that gave a grant, with its author, its committer, and who approved it; people as `Name <address>`.

    Who approved it at the forge, and who merged it there, is named by login.
    """

    granted_in: str
    author: str
    committer: str
    committed_at: datetime
    approvals: tuple[Approval, ...] = ()
    merged_by: str | None = None
    merges: tuple[str, ...] = ()
    """The merges that brought the commit; empty where it was read from the ledger."""

    @property
    def approved_by(self) -> tuple[str, ...]:
        """Return the names of those who approved it."""
        return tuple(approval.name for approval in self.approvals)


class Merged(Frozen):
    """A merged pull request: its number, and the logins of those who approved it and of who merged it."""

    number: int
    approvals: tuple[str, ...]
    merged_by: str | None

    @property
    def detail(self) -> str:
        """Say it for the history."""
        merged = "" if self.merged_by is None else f", merged by {self.merged_by}"
        return f"by {', '.join(self.approvals)} in pull request {self.number}{merged}"


class Unattributed(NamedTuple):
    """Up to which revision it is known who gave a hire's grants, and the last one that may have given any since.

    A `since` of None is none: nothing is known of them.
    """

    since: str | None
    revision: str


SHOWN = 200
"""So much of a request's reason is in a line of the history."""


class Requested(Frozen):
    """That somebody asked for a grant, why and when; `not_offered` is why it may not be asked for, if it may not.

    What is too long until its end is short enough from `fits_from` on. `taken_by` names the hire's other entries for
    the same account that come before it, as far as the files say; `beside` are all requests for it.
    """

    reason: str
    requested_by: str | None = None
    requested_at: datetime | None = None
    not_offered: str | None = None
    fits_from: datetime | None = None
    taken_by: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    begins: datetime | None = None

    @property
    def refusal(self) -> str | None:
        """Return why it is refused, if it is."""
        if self.not_offered is not None or not self.taken_by:
            return self.not_offered
        return f"the hire has that account already, by access {self.taken_by[0]}"

    @property
    def overruled(self) -> bool:
        """Whether another request for the account counts, so that it gives nothing until that is over."""
        return any(each in self.beside for each in self.taken_by)

    def as_of(self, now: datetime, name: str, acted: Mapping[str, datetime | None]) -> Requested:
        """Return it as it is at a time of the day, at which these entries of the hire count, `acted` on since then.

        Of requests for one account, the one counts that was acted on first.
        """
        fits = self.fits_from is not None and self.fits_from <= now
        begun, mine = self.begins is None or self.begins <= now, acted.get(name)
        requests = {each: at for each in self.beside if (at := acted.get(each)) is not None} if begun else {}
        first = [each for each, at in requests.items() if (at, each) < (mine or LAST, name)]
        before = [each for each in self.taken_by if each in acted and (mine is None or each not in self.beside)]
        taken_by = dict.fromkeys((*before, *first))
        return replace(self, not_offered=None if fits else self.not_offered, taken_by=tuple(taken_by))

    def as_json(self) -> dict[str, str | None]:
        """The object of docs/commands.md, "JSON"."""
        return {"reason": self.reason, "requested_by": self.requested_by, "requested_at": stamp(self.requested_at)}

    def __str__(self) -> str:
        why = self.reason
        return f"asked for by {self.requested_by or 'somebody'}: {' '.join(why.split())[:SHOWN]}"
