"""How far somebody's grants are, as the daemon's pages say."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import httpx

from reconciler.transports.transport import tls_context

__all__ = ["statuses"]

SECONDS = 3.0
"""A daemon that does not answer delays a page by no more; then it shows what git says."""


def statuses(url: str, token: str | None, hire: str) -> Mapping[str, str]:
    """Return a hire's statuses by access entry; none where the daemon does not say."""
    headers = {"Accept": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        with httpx.Client(timeout=SECONDS, verify=tls_context(), follow_redirects=False) as client:
            answer = client.get(f"{url.rstrip('/')}/people/{quote(hire, safe='')}", headers=headers)
        return {str(each["access"]): str(each["status"]) for each in answer.raise_for_status().json()["grants"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return {}
