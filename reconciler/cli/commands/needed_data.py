"""The initial data that each service needs: its manifests ask for it, and the program itself asks for its own."""

from __future__ import annotations

from reconciler.model.errors import UsageError
from reconciler.model.manifest import InitialDataField
from reconciler.model.settings import OWN, Settings
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.files import Files

__all__ = ["NeededData", "all_needed_data", "needed_data_of"]


class NeededData(Frozen):
    """The initial data that a service needs; `required` are the ids without which it cannot run."""

    service: str
    fields: tuple[InitialDataField, ...]
    required: frozenset[str]

    @property
    def ids(self) -> list[str]:
        """The ids of all fields."""
        return [field.id for field in self.fields]


def needed_data_of(files: Files, name: str) -> NeededData:
    """Return what a service needs; `name` is the service, one of its integrations, or `reconciler`.

    Raises UsageError if there is no such name.
    """
    known = all_needed_data(files)
    service = files.manifests[name].model.service if name in files.manifests else None
    if (service or name) not in known and (name in files.broken["manifests"] or name in files.broken["imports"]):
        raise UsageError(f"the file of {name} has an error, so that nobody knows what it asks for: mend it first")
    if (service or name) not in known:
        words = [*known, *files.manifests]
        raise UsageError(f"there is no integration, service or import {name}{hint(name, words)}")
    return known[service or name]


def all_needed_data(files: Files) -> dict[str, NeededData]:
    """Return what every service and import needs, by name; the program itself comes last."""
    found: dict[str, NeededData] = {}
    asking = [(loaded.model.service or name, loaded.model.asks_for) for name, loaded in sorted(files.manifests.items())]
    asking += [(name, loaded.model.asks_for) for name, loaded in sorted(files.imports.items())]
    for service, asked in asking:
        before = found.get(service) or NeededData(service, (), frozenset())
        new = tuple(field for field in asked if field.id not in before.ids)
        found[service] = NeededData(service, before.fields + new, before.required | {field.id for field in asked})
    for name, loaded in files.manifests.items():
        service, events = loaded.model.service or name, loaded.model.events
        if events is not None and events.secret not in found[service].ids:  # nothing is blocked for it
            hook = InitialDataField(id=events.secret, description="signs the events of the service")
            found[service] = replace(found[service], fields=(*found[service].fields, hook))
    found[OWN] = _own(files.settings)
    return found


def _own(settings: Settings) -> NeededData:
    fields: tuple[InitialDataField, ...] = (
        InitialDataField(id="SMTP_PASSWORD", description="of smtp.username, at the mail server"),
        InitialDataField(id="TWILIO_AUTH_TOKEN", description="of twilio.account_sid"),
        InitialDataField(id="STATE_PASSWORD", description="of the user in `state`, at the PostgreSQL server"),
        InitialDataField(id="PAGES_TOKEN", description="opens the status pages off loopback; choose a long one"),
        InitialDataField(id="HOOK_SECRET", description="signs pushes at /hooks/git; choose a long one"),
    )
    fields += (InitialDataField(id="SEALING_KEY", secret=False, description="the fingerprint of the state's key"),)
    fields += (InitialDataField(id="CHECKPOINT_KEY", description="signs checkpoints of the history"),)
    hooks = sorted(frozenset().union(*(alert.asks_for for alert in settings.alerts)) - {field.id for field in fields})
    fields += tuple(InitialDataField(id=name, description="in the URL of an alert's webhook") for name in hooks)
    required = set(hooks)
    required |= {"SMTP_PASSWORD"} if settings.smtp.username is not None else set()
    required |= {"TWILIO_AUTH_TOKEN"} if settings.twilio is not None else set()
    return NeededData(OWN, fields, frozenset(required))
