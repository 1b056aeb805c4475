"""JupyterHub as `test_jupyterhub.py` runs it: its API alone, with nobody's notebooks and no proxy before it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from jupyterhub.auth import DummyAuthenticator
from jupyterhub.proxy import Proxy


class NoProxy(Proxy):  # type: ignore[misc]  # JupyterHub has no types
    """Instead of the one in front of a hub, which npm would have to install: nobody comes in that way here."""

    should_start = False

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        pass

    async def delete_route(self, routespec: str) -> None:
        pass

    async def get_all_routes(self) -> dict[str, Any]:
        return {}


class Mortal(DummyAuthenticator):  # type: ignore[misc]
    """Where the test asks for it, by a file, the hub dies of the next person: once they are made, before it says so."""

    def add_user(self, user: Any) -> None:
        super().add_user(user)
        with_whom = Path("dies")
        if with_whom.exists():
            with_whom.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


c = get_config()  # type: ignore[name-defined]  # noqa: F821  JupyterHub runs this file, and gives it that
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.authenticator_class = Mortal
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = f"http://127.0.0.1:{os.environ['PROXY_PORT']}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{os.environ['PORT']}"
c.JupyterHub.api_page_default_limit = 2  # so that three groups come in two pages
c.JupyterHub.load_groups = {name: {"users": []} for name in ("design", "data-science", "R&D (Wien)")}
c.JupyterHub.services = [
    {"name": "reconciler", "api_token": os.environ["TOKEN"]},
    {"name": "administrator", "api_token": f"admin-{os.environ['TOKEN']}", "admin": True},  # who alone makes others one
]
c.JupyterHub.load_roles = [{"name": "reconciler", "scopes": ["admin:users", "groups"], "services": ["reconciler"]}]
