"""A real SCIM 2.0 server (RFC 7644) in memory: the `scim2-server` package, with a bearer token.

It is nobody's mock: filters, conflicts and error bodies are the standard's, as an independent project reads it.
"""

from __future__ import annotations

from typing import Any

from scim2_models import ScimProvider
from scim2_server.memory import InMemoryStorage
from scim2_server.service import ScimService
from scim2_server.testserver.application import BEARER_TOKEN_SCHEME, BearerTokenApplication
from scim2_server.utils import (
    load_default_resource_types,
    load_default_schemas,
    load_default_service_provider_config,
)

PORT = 8902


def scim(token: str) -> Any:
    """Return the WSGI application without users; everything is under `/v2`."""
    config = load_default_service_provider_config()
    config.authentication_schemes = [*(config.authentication_schemes or []), BEARER_TOKEN_SCHEME]
    provider = ScimProvider.from_discovery(
        load_default_schemas().values(), load_default_resource_types().values(), config=config
    )
    return BearerTokenApplication(InMemoryStorage(), provider, ScimService(provider), bearer_tokens=[token])
