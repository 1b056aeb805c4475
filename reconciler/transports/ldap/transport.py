"""LDAP through python-ldap, each request in threads of its own.

A connection is opened and logged in before a request leaves, and the request is sent by a call of its own: so it is
known whether a failed one can have had an effect. Nothing is ever sent again. No configuration of libldap's counts.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import Any

from reconciler.model.errors import TransportError
from reconciler.transports.address import Address
from reconciler.transports.ldap.operation import Entries, Search, attributes, ended
from reconciler.transports.messages import RenderedRequest, Response, login_of
from reconciler.transports.transport import BROKE, Idle, Watch, authorities, in_thread, spoiled

os.environ["LDAPNOINIT"] = "1"  # libldap reads it once: else an ldaprc in the working directory says whom to trust

import ldap
from ldap.controls import SimplePagedResultsControl

PAGE = 500
"""Entries that are asked for at a time (RFC 2696)."""

SCOPES = {"base": ldap.SCOPE_BASE, "one": ldap.SCOPE_ONELEVEL, "sub": ldap.SCOPE_SUBTREE}

LOST = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT)
"""What is no answer of a server."""


class _Page(SimplePagedResultsControl):  # type: ignore[misc]
    """What a page of a search says of the next one. Where it says nothing, python-ldap would end the process."""

    def decodeControlValue(self, encoded: bytes | None) -> None:  # noqa: N802  the library's name
        if not encoded:
            raise ldap.DECODING_ERROR
        super().decodeControlValue(encoded)


CONTROLS = {_Page.controlType: _Page}
"""What is read of answers beside the answer itself."""


class Ldap:
    """Asks directories. `seconds` is the time that a request may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._idle = Idle(_Session.close)

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Ask a directory; see `Transport`."""
        search, login = Search.of(address), login_of(request.headers)
        if login is not None and not login[1]:
            raise TransportError("the password is empty: a directory would take the login for nobody's", left=False)
        where = address.origin, login
        while (kept := self._idle.take(where)) is not None and spoiled(kept.descriptor):
            kept.close()
        session = kept or _Session(where, self._seconds)
        try:
            try:
                await in_thread(session.open, session.abort)
            except LOST as error:
                raise TransportError(f"no connection: {_said(error)}", left=False) from None
            except ldap.LDAPError as error:
                return ended(request, _code(error), _said(error), login=True)
            watch.leaves()
            answer = await in_thread(lambda: session.ask(request, search), session.abort)
            watch.has_left()
        except LOST as error:
            session.broken = True
            raise TransportError(f"{BROKE}: {_said(error)}", left=watch.left) from None
        except ldap.LDAPError as error:
            return ended(request, _code(error), _said(error))
        except BaseException:
            session.broken = True
            raise
        else:
            return answer
        finally:
            if session.broken or not session.opened:
                session.close()
            else:
                self._idle.keep(where, session)

    async def aclose(self) -> None:
        """Close all connections."""
        self._idle.close()


class _Session:
    """A connection, logged in. `open` and `ask` run in a thread, one at a time."""

    def __init__(self, where: tuple[Any, ...], seconds: float) -> None:
        self._where = where
        self._seconds = seconds
        self._ldap: Any = None
        self.descriptor = -1
        self.opened = self.broken = False

    def open(self) -> None:
        """Connect and log in, unless that is done. Raises ldap.LDAPError."""
        if self.opened:
            return
        (scheme, host, port), login = self._where
        made = ldap.initialize(f"{scheme}://{host}:{port}")
        made.set_option(ldap.OPT_PROTOCOL_VERSION, 3)
        made.set_option(ldap.OPT_REFERRALS, 0)
        made.set_option(ldap.OPT_NETWORK_TIMEOUT, self._seconds * 0.8)
        made.set_option(ldap.OPT_TIMEOUT, self._seconds)
        if scheme == "ldaps":
            file, folder = authorities()
            made.set_option(ldap.OPT_X_TLS_CACERTFILE if file else ldap.OPT_X_TLS_CACERTDIR, file or folder)
            made.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            try:
                made.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
            except ValueError:
                given = f"SSL_CERT_FILE={file}" if file else f"SSL_CERT_DIR={folder}"
                raise TransportError(f"no connection: {given} cannot be read: name one in PEM", left=False) from None
        self._ldap = made
        number = made.simple_bind(*(login or ("", "")))
        self.descriptor = made.fileno()
        self._answer(number)
        self.opened = True

    def ask(self, request: RenderedRequest, search: Search) -> Response:
        """Ask once, and wait for the answer. Raises ldap.LDAPError."""
        if request.reads:
            return self._found(search, request.most)
        data = json.loads(request.content or b"{}")
        match request.method:
            case "POST":
                given = [(name, values) for name, values in attributes(data) if values is not None]
                number = self._ldap.add_ext(search.dn, given)
            case "PATCH":
                changes = [("add", ldap.MOD_ADD), ("replace", ldap.MOD_REPLACE), ("delete", ldap.MOD_DELETE)]
                modified = [(how, *each) for change, how in changes for each in attributes(data.get(change))]
                modified = [each for each in modified if each[0] != ldap.MOD_ADD or each[2] is not None]
                number = self._ldap.modify_ext(search.dn, modified)
            case "PUT":
                number = self._ldap.rename(search.dn, data["rdn"], data.get("superior"), delold=1)
            case _:
                number = self._ldap.delete_ext(search.dn)
        self._answer(number)
        return ended(request, 0, "")

    def _answer(self, number: int) -> Any:
        """Wait for the answer to a request. Raises ldap.LDAPError: one of `LOST` also where what comes is none.

        So is a notice of disconnection (RFC 4511, 4.4.1): it has a result code, but is about no request.
        """
        try:
            return self._ldap.result3(number, timeout=self._seconds, resp_ctrl_classes=CONTROLS)
        except LOST:
            raise
        except ldap.LDAPError as error:
            if "msgid" not in _known(error) or _code(error) < 0:
                raise ldap.SERVER_DOWN(_known(error) or {"desc": "cannot be read"}) from None
            raise
        except (MemoryError, SystemError, TypeError, ValueError) as error:  # a name that is not UTF-8, half an entry
            raise ldap.SERVER_DOWN({"desc": f"cannot be read: {str(error) or type(error).__name__}"}) from None

    def _found(self, search: Search, most: int) -> Response:
        """Search, page by page."""
        entries, cookie = Entries(most), b""
        while True:
            control = SimplePagedResultsControl(criticality=False, size=PAGE, cookie=cookie)
            number = self._ldap.search_ext(
                search.dn,
                SCOPES[search.scope],
                search.filter,
                list(search.attributes) or None,
                serverctrls=[control] if search.scope != "base" else None,
            )
            _, found, _, controls = self._answer(number)
            entries.add(found)
            pages = [each for each in controls if each.controlType == SimplePagedResultsControl.controlType]
            cookie = pages[0].cookie if pages else b""
            if not cookie or entries.full:
                return entries.answer()

    def abort(self) -> None:
        """End what a thread waits for. libldap itself lets nobody else touch the connection then."""
        self.broken = True
        if self.descriptor >= 0:
            with suppress(OSError), socket.socket(fileno=os.dup(self.descriptor)) as other:
                other.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; where a thread still has it, that is left to the thread's end."""
        made, self._ldap = self._ldap, None
        if made is not None and not self.broken:
            with suppress(ldap.LDAPError):
                made.unbind_ext()


def _known(error: ldap.LDAPError) -> dict[str, Any]:
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


def _code(error: ldap.LDAPError) -> int:
    return int(_known(error).get("result", 80))


def _said(error: ldap.LDAPError) -> str:
    known = _known(error)
    parts = [str(known[key]) for key in ("desc", "info") if known.get(key)]
    return ": ".join(parts) or " ".join(str(error).split()) or type(error).__name__
