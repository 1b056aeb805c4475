"""Which description each ready manifest is compared with, and what to fill its form in with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Described:
    """`slice` has the operations below `base`. `values` are those of the form that the example answers show."""

    slice: str
    base: str
    values: Mapping[str, Any] = field(default_factory=dict)


SERVICES = {
    "asana": Described("asana", "https://app.asana.com/api/1.0"),
    "asana-team": Described("asana", "https://app.asana.com/api/1.0"),
    "box": Described("box", "https://api.box.com/2.0"),
    "docusign-admin": Described("docusign-admin", "https://api.docusign.net/Management"),
    "gitea": Described("gitea", "https://gitea.example.com/api/v1"),
    "gitea-team": Described("gitea", "https://gitea.example.com/api/v1"),
    "harbor": Described("harbor", "https://harbor.example.com/api/v2.0"),
    "harbor-project": Described("harbor", "https://harbor.example.com/api/v2.0"),
    "mattermost": Described("mattermost", "https://mattermost.example.com/api/v4"),
    "mattermost-team": Described("mattermost", "https://mattermost.example.com/api/v4"),
    "netbird": Described("netbird", "https://api.netbird.io", {"GROUPS": ["ch8i4ug6lnn4g9hqv7m0"]}),
    "netlify": Described("netlify", "https://api.netlify.com/api/v1"),
    "sendgrid": Described("sendgrid", "https://api.sendgrid.com"),
    "zulip": Described("zulip", "https://zulip.example.com/api/v1"),
    "entra": Described("microsoft-graph", "https://graph.microsoft.com/v1.0"),
    "entra-group": Described("microsoft-graph", "https://graph.microsoft.com/v1.0"),
    "entra-guest": Described("microsoft-graph", "https://graph.microsoft.com/v1.0"),
    "github": Described("github", "https://api.github.com"),
    "github-emu": Described("scim", "https://api.github.com/scim/v2/enterprises/acme"),
    "github-team": Described("github", "https://api.github.com"),
    "google-group": Described("google-directory", "https://admin.googleapis.com"),
    "google-workspace": Described("google-directory", "https://admin.googleapis.com"),
    "scim": Described("scim", "https://scim.example.com/v2"),
    "scim-group": Described("scim", "https://scim.example.com/v2"),
    "1password": Described("scim", "https://scim.example.com/scim"),
    "figma": Described("scim", "https://www.figma.com/scim/v2/acme"),
    "notion": Described("scim", "https://api.notion.com/scim/v2"),
    "snowflake": Described("scim", "https://example.snowflakecomputing.com/scim/v2"),
    "slack-scim": Described("scim", "https://api.slack.com/scim/v2"),
    "slack-usergroup": Described("scim", "https://api.slack.com/scim/v2"),
}
