"""Judge a desired state by `config/policy.yaml`. Offline and pure.

A pass decides whether a grant that breaks a rule exists already: then it is a problem, otherwise it is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from itertools import chain
from zoneinfo import ZoneInfo

from reconciler.model.base import as_text
from reconciler.model.clock import after
from reconciler.model.config_files import Rule
from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.hire import Hire, NamedChoice
from reconciler.model.text import hint, some
from reconciler.model.value import Frozen
from reconciler.repository.config_files import POLICY, Listed
from reconciler.repository.desired import Desired
from reconciler.repository.people import skeleton


class Share(Frozen):
    """What one hire adds to rules that are judged over all hires.

    `counted` has a rule once for each grant that it counts, `meant` those whose `when` matches the hire, and `access`
    the names of the hire's entries, where a rule is about names.
    """

    counted: tuple[int, ...] = ()
    meant: tuple[int, ...] = ()
    access: tuple[str, ...] = ()


class ByLedger(Frozen):
    """What counts by the ledger, whatever git says: grants that are kept although no file gives them, and what is over.

    `counts` says how many of the former each rule counts.
    """

    kept: Mapping[str, Sequence[Record]] = {}
    counts: Sequence[int] = ()
    over: Collection[Key] = ()


NOTHING = ByLedger()


class PolicyRules:
    """Judges the desired state of one or two revisions."""

    def __init__(self, desired: Desired, *several: Listed[Rule]) -> None:
        self._desired = desired
        self._rules: list[tuple[Rule, int | None]] = []
        for rule, line in (each for rules in several for each in rules.entries):
            if all(rule != known for known, _ in self._rules):
                self._rules.append((rule, line))
        self._broken = next((rules.broken for rules in several if rules.broken is not None), None)
        self._keys: list[frozenset[Key]] | None = None

    def of(self, grant: Grant, gained: Collection[str] | None = None, known: ByLedger = NOTHING) -> str | None:
        """Return why a grant must not be given, or None: the first rule that it breaks.

        `gained` names the form's values that an update gives an account that is there; None if all of it is new. Then
        only the rules that count these values apply. What the ledger is `known` to keep counts as what git wants does.
        """
        if gained is None and self._broken is not None:
            return f"the policy cannot be read: {self._broken}"
        return next(self.breaches(grant, gained, known, counted=True), None)

    def crowd(self, grant: Grant, known: ByLedger) -> set[str]:
        """Return the hires who have what a grant is one too many of."""
        return {
            key.hire
            for index, (rule, _) in enumerate(self._rules)
            if rule.at_most is not None and _holds(rule, grant) and self._number(index, known) > rule.at_most
            for key in self._counted()[index]
        }

    def compares(self, grant: Grant) -> bool:
        """Whether a rule compares a grant with others."""
        names = {grant.key.access, grant.integration}
        return any(
            not names.isdisjoint(rule.never_both or ())
            or (rule.at_most is not None and rule.integration == grant.integration)
            for rule, _ in self._rules
        )

    def kept(self, records_kept: Iterable[Record]) -> ByLedger:
        """Sum up the records of files that cannot be read, and of requests that are not allowed any more."""
        found: dict[str, list[Record]] = {}
        for record in records_kept:
            wanted = (each.key for each in self._desired.grants(record.key.hire) if not gives_nothing(each))
            if record.may_remain and record.key not in wanted:
                found.setdefault(record.key.hire, []).append(record)
        records = list(chain.from_iterable(found.values()))
        return ByLedger(found, [sum(_held(rule, record) for record in records) for rule, _ in self._rules])

    def problems_of(self, grant: Grant, known: ByLedger = NOTHING) -> Iterator[Problem]:
        """Return the problems of a grant that breaks rules, beside those that count."""
        for breach in self.breaches(grant, known=known):
            yield Problem(*grant.place, f"access {grant.key.access} of {grant.key.hire}: {breach}")

    def lacks_of(self, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        """Report what a hire must have and does not; `grants` are its own."""
        grants = tuple(grant for grant in grants if not gives_nothing(grant))
        for rule, _ in self._rules:
            for name in self._lacking(rule, hire, grants):
                loaded = self._desired.hires[hire]
                yield Problem(loaded.path, loaded.document.line(("access",)), f"{hire}: {rule}: must have {name}")

    def requires(
        self, record: Record | Grant, counts: Callable[[Grant], bool] = lambda grant: not gives_nothing(grant)
    ) -> str | None:
        """Return why what git no longer wants must not be lost: its hire must have it, and has no other; or None.

        Of what git has only what `counts` is another: an entry's time may be over.
        """
        hire = record.key.hire
        if hire not in self._desired.hires:
            return None
        for rule, _ in self._rules:
            theirs = next((name for name in rule.must_have or () if self._is(name, record)), None)
            if theirs is None:
                continue
            others = [grant for grant in self._desired.grants(hire) if counts(grant)]
            if theirs in self._lacking(rule, hire, others):
                return f"{rule}: must have {theirs}"
        return None

    def _lacking(self, rule: Rule, hire: str, grants: Collection[Grant]) -> Iterator[str]:
        if rule.must_have is not None and self._meant(rule, hire):
            yield from (name for name in rule.must_have if not any(self._is(name, grant) for grant in grants))

    def _is(self, name: str, item: Grant | Record) -> bool:
        """Whether it is what a rule wants by this name; an integration's own is no other's, whatever that is called."""
        files = self._desired.files
        meant = name in files.manifests or name in files.broken["manifests"]
        return item.integration == name or (item.key.access == name and not meant)

    def _meant(self, rule: Rule, hire: str) -> bool:
        """Whether a rule is about a hire."""
        if rule.hire is not None:
            return rule.hire == hire
        if rule.when is None:
            return True
        person = self._desired.hires[hire].model  # who only looks like somebody whom it is about is one
        return rule.when.holds(person) or rule.when.holds(person, fold=skeleton)

    def counting(self, grant: Grant) -> tuple[int, ...]:
        """Return the rules that count a grant."""
        return tuple(index for index, (rule, _) in enumerate(self._rules) if _holds(rule, grant))

    def share(self, hire: str, grants: Iterable[Grant]) -> Share:
        """Return what a hire adds to what `counted` and `idle` judge; `grants` are its own."""
        if not self._rules:
            return Share()
        grants = tuple(grants)
        counted = (index for grant in grants for index in self.counting(grant))
        meant = (
            index for index, (rule, _) in enumerate(self._rules) if rule.when is not None and self._meant(rule, hire)
        )
        names = any(_names(rule) for rule, _ in self._rules)
        return Share(tuple(counted), tuple(meant), tuple(grant.key.access for grant in grants) if names else ())

    @property
    def counts(self) -> frozenset[str]:
        """Return the integrations of which a rule counts who has something."""
        return frozenset(rule.integration for rule, _ in self._rules if rule.integration is not None)

    def bounded_by_today(self) -> bool:
        """Whether a rule may apply to a hire differently on another day."""
        return any(rule.within is not None for rule, _ in self._rules)

    def counted(self, counts: Mapping[int, int], over: Collection[Key] = ()) -> Iterator[Problem]:
        """Report rules whose count is too low or too high; `counts` are of all shares, less what is `over`."""
        for index, (rule, line) in enumerate(self._rules):
            if rule.integration is None:
                continue
            count = counts.get(index, 0)
            if rule.at_least is not None and count < rule.at_least:
                yield Problem(POLICY, line, f"{rule}: {_what(rule)} is given to {count}, at least {rule.at_least}")
            if rule.at_most is not None and count > rule.at_most:
                whom = some(sorted({key.hire for key in self._counted()[index] if key not in over}))
                told = f"{rule}: {_what(rule)} is given to {count}, at most {rule.at_most}: {whom}"
                yield Problem(POLICY, line, told)

    def idle(self, meant: Collection[int], access: Iterable[str]) -> Iterator[Problem]:
        """Warn of rules that match nobody, or name what does not exist. `meant` and `access` are of all shares."""
        known = self._desired.files.manifests.keys() | self._desired.files.broken["manifests"].keys()
        names = known | set(access)
        for index, (rule, line) in enumerate(self._rules):
            for name in _names(rule):
                if name not in names:
                    text = f"nobody has an access entry {name}, and there is no such integration{hint(name, names)}"
                    yield Problem(POLICY, line, f"policy {rule.name}: {text}", Severity.WARNING)
            hires = self._desired.hires
            if rule.hire is not None and rule.hire not in hires.index:
                text = f"there is no hires/{rule.hire}.yaml{hint(rule.hire, hires.index)}"
                yield Problem(POLICY, line, f"policy {rule.name}: {text}", Severity.WARNING)
            if rule.when is not None and index not in meant:
                yield Problem(POLICY, line, f"policy {rule.name}: when matches no hire", Severity.WARNING)

    def breaches(
        self, grant: Grant, gained: Collection[str] | None = None, known: ByLedger = NOTHING, *, counted: bool = False
    ) -> Iterator[str]:
        """Return the rules that a grant breaks, those that count only where they are `counted` too."""
        for index, (rule, _) in enumerate(self._rules):
            if gained is not None and rule.values.keys().isdisjoint(gained):
                continue
            if rule.never_both is not None:
                yield from self._both(rule, rule.never_both, grant, known)
            elif rule.must_not_have is not None:
                theirs = _named(rule.must_not_have, grant)
                if theirs is not None and self._meant(rule, grant.key.hire):
                    yield f"{rule}: must not have {theirs}"
            elif rule.require is not None:
                hire = self._desired.hires[grant.key.hire].model
                if self._meant(rule, grant.key.hire) and (lack := self._unbounded(rule, hire, grant)) is not None:
                    yield f"{rule}: {lack}"
            elif rule.at_most is not None and (field := _by_name(rule, grant)) is not None:
                yield f"{rule}: it counts {field} by value, and this is a name: write the value"
            elif (
                counted
                and rule.at_most is not None
                and _holds(rule, grant)
                and (count := self._number(index, known)) > rule.at_most
            ):
                yield f"{rule}: {_what(rule)} is given to {count}, at most {rule.at_most}"

    def _both(self, rule: Rule, names: Iterable[str], grant: Grant, known: ByLedger) -> Iterator[str]:
        ours = [name for name in names if name in (grant.key.access, grant.integration)]
        if not ours:
            return
        hire = grant.key.hire
        wanted = (other for other in self._desired.grants(hire) if other.key not in known.over)
        given = (other for other in wanted if not gives_nothing(other))
        others: list[Grant | Record] = [*given, *known.kept.get(hire, ())]
        for other in others:
            theirs = [name for name in names if name in (other.key.access, other.integration) and name not in ours]
            if theirs and other.key != grant.key:
                yield f"{rule}: never both {ours[0]} and {theirs[0]}"
                return

    def _unbounded(self, rule: Rule, hire: Hire, grant: Grant) -> str | None:
        begins = datetime.combine(grant.begins or hire.start or self._desired.today, time())
        zone = ZoneInfo(self._desired.files.settings.timezone)  # in its days: one of them has 25 hours
        until = None if grant.until is None else grant.until.astimezone(zone).replace(tzinfo=None)
        last = None if hire.end is None else datetime.combine(hire.end, time())
        lasts = None if grant.lasts is None else after(begins, grant.lasts)
        end = min((moment for moment in (until, last, lasts) if moment is not None), default=None)
        if end is None:
            return "it has no until"
        if rule.within is not None and end - begins > rule.within:
            shown = end.isoformat(timespec="minutes") if end.time() != time() else end.date()
            return f"until {shown} is more than {rule.within.days} days after {begins.date()}"
        return None

    def _number(self, index: int, known: ByLedger) -> int:
        """Return how many have what a rule counts."""
        keys = self._counted()[index]
        return len(keys) - len(keys.intersection(known.over)) + (known.counts[index] if known.counts else 0)

    def _counted(self) -> list[frozenset[Key]]:
        """List what each rule counts."""
        if self._keys is None:
            self._keys = [frozenset(self._holding(rule)) for rule, _ in self._rules]
        return self._keys

    def _holding(self, rule: Rule) -> Iterator[Key]:
        """Yield the grants that a rule counts."""
        if rule.integration is not None:
            for hire in self._desired.hires:
                if rule.integration in self._desired.integrations(hire):
                    yield from (grant.key for grant in self._desired.grants(hire) if _holds(rule, grant))


def gives_nothing(grant: Grant) -> bool:
    """Whether it is a request that does not fit, or is not allowed on the whole day: it holds nothing but itself.

    What one gave that was allowed before is in the ledger.
    """
    later = grant.requested is not None and grant.requested.fits_from is not None
    return grant.refused and not later


def _holds(rule: Rule, grant: Grant) -> bool:
    return grant.integration == rule.integration and not gives_nothing(grant) and _meets(rule, grant.value)


def _held(rule: Rule, record: Record) -> bool:
    return record.integration == rule.integration and _meets(rule, record.values.get)


def _meets(rule: Rule, value_of: Callable[[str], object]) -> bool:
    """Whether values are those that a rule names, as services that take no notice of case or blanks compare them."""
    return all(
        any(
            isinstance(text := as_text(value), str) and skeleton(text) == skeleton(wanted)
            for value in _each(value_of(name))
        )
        for name, wanted in rule.values.items()
    )


def _by_name(rule: Rule, grant: Grant) -> str | None:
    """Return a field that a rule counts and an entry fills by an option's name: only the service knows its value."""
    if grant.integration != rule.integration:
        return None
    by_name = (name for name in rule.values if any(isinstance(it, NamedChoice) for it in _each(grant.value(name))))
    return next(by_name, None)


def _each(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _names(rule: Rule) -> Sequence[str]:
    """Return the names of entries or integrations that a rule is about."""
    return [*(rule.never_both or ()), *(rule.must_not_have or ()), *(rule.must_have or ())]


def _named(names: Iterable[str], item: Grant | Record) -> str | None:
    """Return the first of these names that a grant goes by, or None."""
    return next((name for name in names if name in (item.key.access, item.integration)), None)


def _what(rule: Rule) -> str:
    values = ", ".join(f"{name} {value}" for name, value in rule.values.items())
    return f"{rule.integration}{f' with {values}' if values else ''}"
