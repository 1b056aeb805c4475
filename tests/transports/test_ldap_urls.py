"""How a directory's URL is read; it needs neither a directory nor the driver."""

from __future__ import annotations

import pytest

from reconciler.transports.address import locate
from reconciler.transports.ldap.operation import Search


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("uid=ada", Search("uid=ada", (), "base", "(objectClass=*)")),
        ("ou=people?cn,mail?one", Search("ou=people", ("cn", "mail"), "one", "(objectClass=*)")),
        ("ou=people??sub?mail=ada%40x", Search("ou=people", (), "sub", "(mail=ada@x)")),
        ("ou=people??sub?(mail=ada)", Search("ou=people", (), "sub", "(mail=ada)")),
    ],
)
def test_parts_of_a_url_that_are_left_out_have_their_usual_values(target: str, found: Search) -> None:
    address = locate(f"ldaps://directory.example.com/{target}")
    assert address is not None
    assert Search.of(address) == found
