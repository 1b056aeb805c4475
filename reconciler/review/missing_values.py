"""Values that entries need and no file gives, or that no URL may have: the next pass would block such a grant.

No secret is read: a name that initial data may have, that is generated, or that is known at run time counts as given. A
name that nothing declares may be in the service's initial data, if there is such a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.model.base import jsonable
from reconciler.model.errors import Blocked, MissingVariable, Problem
from reconciler.model.grant import Grant
from reconciler.model.hire import Entry
from reconciler.model.manifest import Manifest
from reconciler.model.scope import HIRE_NAMES, KNOWN_NAMES, Layer, Scope
from reconciler.model.template import FILL_IN, roots
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Tree
from reconciler.requests.template import render_url
from reconciler.secrets.initial_data import FOLDER, service_of

__all__ = ["MissingValues"]

AT_RUN = KNOWN_NAMES - frozenset(HIRE_NAMES)


class MissingValues:
    """Finds the missing values of a revision. `tree` says which services have initial data; without it, all may."""

    def __init__(self, desired: Desired, tree: Tree | None) -> None:
        self._desired = desired
        self._opened = (
            None if tree is None else {service_of(file.path.removeprefix(f"{FOLDER}/")) for file in tree.files(FOLDER)}
        )
        self._asked: dict[str, tuple[str, ...]] = {}

    def of(self, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        """Report the missing values of one hire's `grants`."""
        for grant in grants:
            manifest = grant.manifest
            if grant.hold is not None or manifest is None:
                continue
            scope = Scope(grant.layers)
            for name in self._asked_of(grant, manifest):
                try:
                    scope.look_up(name)
                except MissingVariable:
                    yield self._problem(hire, grant, manifest, name)
            yield from self._unfit(hire, grant, manifest)

    def _unfit(self, hire: str, grant: Grant, manifest: Manifest) -> Iterator[Problem]:
        """Report values that would make a request's path lead elsewhere."""
        if not any(_may_bend(value) for layer in grant.layers for value in layer.values.values()):
            return
        layers = tuple(Layer(layer.origin, jsonable(layer.values)) for layer in grant.layers)
        for place, call in manifest.calls():
            url = call.url or ""
            scope = Scope(layers, roots(url) - {name for layer in layers for name in layer.values})
            try:
                render_url(url, scope)
            except MissingVariable:
                continue
            except Blocked as error:
                file, _, line = grant.source.rpartition(":")
                yield Problem(file, int(line), f"access {grant.key.access} of {hire}: {place}: {error}")

    def _asked_of(self, grant: Grant, manifest: Manifest) -> tuple[str, ...]:
        """List the names that a hire or an entry has to give for this integration."""
        known = self._asked.get(grant.integration)
        if known is None:
            of_service = [each for _, each in self._desired.services[grant.service].manifests.values()]
            given = {*AT_RUN, *manifest.generated}
            given.update(*(each.stored for each in of_service), *({f.id for f in each.asks_for} for each in of_service))
            declared = {field.id for field in manifest.form} | {info.id for info in manifest.extra_user_info}
            sealed = self._opened is None or grant.service in self._opened
            wanted = manifest.needed | {info.id for info in manifest.extra_user_info}
            hires = {*declared, *HIRE_NAMES, "phone"}
            known = tuple(
                sorted(
                    name
                    for name in wanted
                    if given.isdisjoint({name, root := name.partition(".")[0]}) and (not sealed or root in hires)
                )
            )
            self._asked[grant.integration] = known
        return known

    def _problem(self, hire: str, grant: Grant, manifest: Manifest, name: str) -> Problem:
        file, _, line_text = grant.source.rpartition(":")
        line: int | None = int(line_text)
        whose = f"access {grant.key.access} of {hire}"
        uses = self._desired.files.manifests[grant.integration].path
        if name in {field.id for field in manifest.form}:
            if self._entry(grant).values.get(name) == FILL_IN:
                return Problem(file, line, f"{whose}: values.{name} is still FILL-IN, and {uses} uses it")
            return Problem(file, line, f"{whose}: values.{name} is missing: {uses} has it in its form and uses it")
        loaded = self._desired.hires[hire]
        if grant.origin is not None:
            file, line = loaded.path, loaded.document.line(("sequences",))
        if because := grant.absent.get(name):
            return Problem(file, line, f"{whose}: {name} has no value: {because}")
        if name in (*HIRE_NAMES, "phone"):
            return Problem(file, line, f"{whose}: the hire gives no {name}, which {uses} uses")
        if loaded.model.extra.get(name) == FILL_IN:
            line = loaded.document.line(("extra", name))
            return Problem(loaded.path, line, f"extra.{name} is still FILL-IN, and {uses} uses it")
        return Problem(file, line, f"{whose}: the hire gives no extra.{name}, which {uses} uses")

    def _entry(self, grant: Grant) -> Entry:
        """Return the entry that a grant is of."""
        files = self._desired.files
        if grant.requested is not None:
            return files.requests[grant.key.access].model.access
        model = files.hires[grant.key.hire].model if grant.origin is None else files.sequences[grant.origin].model
        return next(entry for entry in model.access if entry.access == grant.key.access)


def _may_bend(value: object) -> bool:
    """Whether a value may make a URL's path lead elsewhere: nearly none does, and rendering takes time."""
    return isinstance(value, str) and (value in ("", ".", "..") or "/" in value or "%2" in value)
