"""What an attempt received is sealed as it came, so that a later one can go on with it."""

from __future__ import annotations

from reconciler.ledger.vault import Memory, Vault
from reconciler.model.grant import Key
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer
from reconciler.transports.messages import Response


def test_memory_keeps_what_a_directory_answered() -> None:
    """Its texts are compared as names are, and have a type of their own; without python-ldap nothing else shows it."""
    answer = Response(200, {}, b'[{"dn": "uid=ada,dc=example", "mail": ["ada@example.com"]}]', directory=True)
    memory = Memory()
    memory.answered(1, answer.json())
    memory.stored["DN"] = answer.at("0.dn")
    vault = Vault(Sealer(bytes(32), (), Gnupg(None)))
    ((name, sealed),) = vault.remember(Key("ada", "directory"), memory).items()
    kept = vault.decoded(name, sealed)
    assert kept["responses"] == [None, [{"dn": "uid=ada,dc=example", "mail": ["ada@example.com"]}]]
    assert kept["stored"] == {"DN": "uid=ada,dc=example"}
