"""A Kinto plugin for `test_kinto.py`: it writes down what was asked, and stumbles where the test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyramid.tweens import EXCVIEW


def includeme(config: Any) -> None:
    config.add_tween(f"{__name__}.written_down")
    config.add_tween(f"{__name__}.stumbling", under=EXCVIEW)


def written_down(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """Every request with its outcome, in the file `asked`."""

    def handle(request: Any) -> Any:
        response = handler(request)
        with Path("asked").open("a") as file:
            file.write(f"{response.status_int} {request.method} {request.path}\n")
        return response

    return handle


def stumbling(handler: Callable[[Any], Any], _registry: Any) -> Callable[[Any], Any]:
    """The next request of the method that the file `stumbles` holds breaks, and Kinto makes of it what it makes."""

    def handle(request: Any) -> Any:
        over = Path("stumbles")
        if over.exists() and over.read_text() == request.method:
            over.unlink()
            raise RuntimeError("as the test asked for")
        return handler(request)

    return handle
