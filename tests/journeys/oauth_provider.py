"""An OAuth 2 provider that is none of ours: django-oauth-toolkit, with Django's own login page and people to ask about.

A program of its own: `python oauth_provider.py FOLDER`, which says its port on standard output. `/control/` is the
test's way in: it begins anew for a redirect URI, reads what was asked for, sets how long tokens last, and takes tokens
away.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

USER, PASSWORD = "ida", "correct horse battery staple"
CLIENT_ID, CLIENT_SECRET = "access-reconciler", "cl1ent-secret-of-the-reconciler"

people: dict[str, str] = {}
asked: list[str] = []


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def remember(get_response: Any) -> Any:
    """A middleware that writes down every request to the token endpoint and to the people, with its outcome."""

    def middleware(request: HttpRequest) -> HttpResponse:
        grant = f" {request.POST.get('grant_type')}" if request.path == "/o/token/" else ""
        response: HttpResponse = get_response(request)
        if not request.path.startswith("/control"):
            asked.append(f"{request.method} {request.path}{grant} {response.status_code}")
        return response

    return middleware


def set_up(folder: Path) -> None:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "provider.db"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "oauth2_provider",
        ],
        LOGIN_URL="/admin/login/",
        MIDDLEWARE=[
            f"{__name__}.remember",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        OAUTH2_PROVIDER={
            "ALWAYS_RELOAD_OAUTHLIB_CORE": True,  # so that a lifetime that is set counts from the next token on
            "PKCE_REQUIRED": True,
            "SCOPES": {"people": "See and make people"},
        },
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # a slow one takes half a second a request
        ROOT_URLCONF=__name__,
        SECRET_KEY="only for this test",
        STATIC_URL="/static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    )
    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import User
    from oauth2_provider.models import get_application_model

    ida = User.objects.create_superuser(USER, password=PASSWORD)
    get_application_model().objects.create(
        name="Access reconciler",
        user=ida,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_type="confidential",
        authorization_grant_type="authorization-code",
    )


def routes() -> list[Any]:
    from django.contrib import admin
    from oauth2_provider.decorators import protected_resource
    from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model
    from oauth2_provider.settings import oauth2_settings

    def person(request: HttpRequest, email: str = "") -> HttpResponse:
        if request.method == "POST":
            made = json.loads(request.body)
            people[made["email"]] = made["name"]
            return JsonResponse(made, status=201)
        return JsonResponse({"email": email}, status=200) if email in people else JsonResponse({}, status=404)

    def control(request: HttpRequest) -> HttpResponse:
        wanted = json.loads(request.body or b"{}")
        if "begin" in wanted:
            people.clear()
            asked.clear()
            get_application_model().objects.update(redirect_uris=wanted["begin"])
            get_refresh_token_model().objects.all().delete()
            get_access_token_model().objects.all().delete()
        if "lasts" in wanted:
            oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS = wanted["lasts"]
        if "revoke" in wanted:
            get_access_token_model().objects.update(expires=timezone.now() - timedelta(hours=1))
        if wanted.get("revoke") == "all":
            get_refresh_token_model().objects.all().delete()
        return JsonResponse({"asked": asked, "people": people})

    protected = protected_resource(scopes=["people"], advertise_metadata=True)
    return [
        path("admin/", admin.site.urls),
        path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        path("people/", csrf_exempt(protected(person))),
        path("people/<str:email>", csrf_exempt(protected(person))),
        path("control/", csrf_exempt(control)),
    ]


urlpatterns: list[Any] = []


def main() -> None:
    sys.modules.setdefault(Path(__file__).stem, sys.modules[__name__])
    set_up(Path(sys.argv[1]))
    urlpatterns.extend(routes())
    server = make_server("127.0.0.1", 0, get_wsgi_application(), Server, Quiet)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
