"""The README's five commands for GitHub, typed word for word, with GitHub on loopback."""

from __future__ import annotations

import re

from tests.docs.test_tutorial import ROOT, home, shell
from tests.servers import Service

__all__ = ["home"]

MEMBER = {"state": "active", "role": "member", "user": {"login": "ada-l"}}


def test_five_commands_lead_to_a_true_dry_run(tmp_path, home, service: Service) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"^## Your own service\n.*?^```\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert block
    init, *rest = block[1].splitlines()
    assert len([init, *rest]) == 5
    edit = (
        "git config user.name Ida && git config user.email ida@example.com\n"
        "sed -i s/FILL-IN/ada-l/ hires/ada.yaml\n"
        f"sed -i s,https://api.github.com,{service.url}, manifests/github.yaml\n"
        "printf 'TOKEN: invented-token\\nORG: acme\\n' >../secrets"
    )
    script = "\n".join([init, edit, *rest]).replace(
        "--recipient it@example.com", "--recipient it@example.com <../secrets"
    )
    service.route("GET", "/orgs/acme/memberships/ada-l", MEMBER)
    assert "1 present" in shell(tmp_path, script, home)
    assert "Bearer invented-token" in {call.headers["Authorization"] for call in service.requests}
