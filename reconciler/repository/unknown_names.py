"""Integrations and form fields that the policy and what may be asked for name, and that are not there.

A name that is misspelt restricts nothing, and nobody sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler.model.errors import Problem, Severity
from reconciler.model.near import near
from reconciler.repository.files import Files
from reconciler.repository.requestable import REQUESTABLE
from reconciler.repository.rules import POLICY

__all__ = ["unknown_names"]


def unknown_names(files: Files) -> Iterator[Problem]:
    """Warn of each. A manifest that is broken may have any field."""
    rules, offers = files.policy.rules, files.offers.entries
    named: list[tuple[str, int | None, str, str | None, Collection[str]]] = [
        *((POLICY, line, f"policy {rule.name}", rule.integration, rule.values) for rule, line in rules),
        *((REQUESTABLE, line, offer.integration, offer.integration, offer.values) for offer, line in offers),
    ]
    known = files.manifests.keys() | files.broken["manifests"].keys()
    for path, line, name, integration, values in named:
        if integration is not None and integration not in known:
            told = f"{name}: there is no integration {integration}{near(integration, known)}"
            yield Problem(path, line, told, Severity.WARNING)
        elif integration in files.manifests:
            fields = [field.id for field in files.manifests[integration].model.form]
            for field in sorted(set(values) - set(fields)):
                told = f"{name}: the form of {integration} has no {field}{near(field, fields)}"
                yield Problem(path, line, told, Severity.WARNING)
