"""Run GnuPG so that it can neither prompt nor hang.

gpg runs in batch mode, without a terminal and with `--pinentry-mode error`, so that a passphrase comes from the agent's
cache or not at all. Results are judged by gpg's status lines, not by its exit code: a message counts as decrypted only
if it was encrypted, complete and integrity-protected. Clear text goes through pipes; it is never written to a file, and
no error repeats it.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import gnupg

from reconciler.model.errors import SecretsError
from reconciler.repository.git.program import objection_to_home

LIMIT = 1 << 20
"""The most that a message may hold, in bytes: the limit of a file, which compression must not evade."""

TIMEOUT_SECONDS = 30.0
"""Seconds after which gpg counts as hung: a smartcard that waits for a touch, an agent that does not answer."""

_QUIET = ["--pinentry-mode", "error", "--disable-dirmngr", "--no-auto-check-trustdb"]
"""No prompt, no look-up of keys over the network, no work on the web of trust in passing."""

_ANONYMOUS = "0" * 16
_PASSPHRASE = frozenset({11, 85, 99, 177, 0x8019, 0x8066})
"""libgpg-error's codes for a passphrase that nobody could give: bad, no pinentry, cancelled, none, no terminal."""
_NO_SECRET_KEY = 17

# python-gnupg logs each failure too; here a failure is raised, and logged once, by the caller that handles it.
logging.getLogger("gnupg").disabled = True


class _Answer(gnupg.StatusHandler):  # type: ignore[misc]
    """The result of one gpg call; python-gnupg fills in `data`, `stderr` and `returncode`."""

    data: bytes = b""
    stderr: str = ""
    returncode: int | None = None

    def __init__(self, program: gnupg.GPG) -> None:
        super().__init__(program)
        self.statuses: list[tuple[str, list[str]]] = []

    def handle_status(self, key: str, value: str) -> None:
        self.statuses.append((key, value.split()))

    def __contains__(self, key: str) -> bool:
        return any(key == name for name, _ in self.statuses)

    def every(self, key: str) -> list[list[str]]:
        """Return the fields of each status line of this name."""
        return [fields for name, fields in self.statuses if name == key]

    @property
    def no_agent(self) -> bool:
        """Whether the agent could not be reached, which gpg reports in prose only."""
        return "can't connect to the gpg-agent" in self.stderr

    def last_word(self) -> str:
        """Return gpg's last own message, for failures without a message of the program."""
        said = [line.strip() for line in self.stderr.splitlines() if line.startswith("gpg: ")]
        return "".join(char for char in said[-1][5:] if char.isprintable())[:200] if said else "it gave no reason"


class _Program(gnupg.GPG):  # type: ignore[misc]
    def ask(self, args: list[str], raw: bytes) -> _Answer:
        answer = _Answer(self)
        with suppress(BrokenPipeError):  # gpg read no further; its statuses say why
            self._handle_io(args, io.BytesIO(raw), answer, binary=True)
        return answer

    def _collect_output(self, process: Any, *rest: Any, **named: Any) -> Any:
        watch = threading.Timer(TIMEOUT_SECONDS, process.kill)
        watch.start()
        try:
            return super()._collect_output(process, *rest, **named)
        finally:
            watch.cancel()


class Gnupg:
    """GnuPG in one home directory; None is GnuPG's own. Thread-safe.

    A home within `checkout` is refused: its settings name programs that gpg runs, and a commit can write them.
    """

    def __init__(self, home: str | None, checkout: Path | None = None) -> None:
        self._checkout = checkout
        self.home = None if home is None else str(Path(home).expanduser())
        self._program: _Program | None = None
        self._expired: set[str] = set()

    def decrypt(self, raw: bytes, file: str = "FILE") -> bytes:
        """Decrypt a PGP message, binary or armored. `file` is how errors name it.

        Raises SecretsError, with a message for each reason (docs/design/rules.md, "Limits of input").
        """
        answer = self._ask(["--max-output", str(LIMIT + 1), "--decrypt"], raw)
        whole = "DECRYPTION_OKAY" in answer and "GOODMDC" in answer and answer.returncode in {0, 2}
        if not whole or any(key in answer for key in ("DECRYPTION_FAILED", "BADMDC", "BADSIG")):
            raise SecretsError(self._refusal(answer, file))
        if len(answer.data) > LIMIT:
            raise SecretsError("decrypted, it is over 1 MiB: initial data is a short list of values")
        for line in answer.stderr.splitlines():
            if line.startswith("gpg: Note: secret key ") and " expired at " in line:
                self._expired.add(line.split()[4])
        return answer.data

    @property
    def expired(self) -> list[str]:
        """Return the ids of keys that decrypted something although they have expired, sorted.

        gpg decrypts with them and does no more than that: the next `initial-data set` will fail.
        """
        return sorted(self._expired)

    def encrypt(self, raw: bytes, recipients: list[str], *, armor: bool) -> bytes:
        """Encrypt to exactly these keys (ids, fingerprints or addresses), trusted because they were named.

        The form does not depend on the user's gpg.conf: no further or hidden recipient, version, comment or file name.
        Raises SecretsError where one of them is unknown, expired or revoked: none is omitted silently.
        """
        if not recipients:
            raise SecretsError("there is no key to encrypt to: name one, as its id, fingerprint or address")
        args = ["--encrypt", "--trust-model", "always", "--auto-key-locate", "local", "--no-encrypt-to"]
        args += [
            "--no-throw-keyids",
            "--no-comments",
            "--no-emit-version",
            "--set-filename",
            "",
            "--armor" if armor else "--no-armor",
        ]
        for recipient in sorted(set(recipients)):
            args += ["--recipient", recipient]
        answer = self._ask(args, raw)
        if answer.returncode != 0 or "END_ENCRYPTION" not in answer or not answer.data:
            raise SecretsError(next(filter(None, map(self.unusable, recipients)), None) or self._failed(answer))
        return answer.data

    def recipients(self, raw: bytes) -> list[str]:
        """Return the ids of the keys that a message is encrypted to, sorted, without hidden ones. Decrypts nothing.

        Raises SecretsError where it is no PGP message.
        """
        answer = self._ask(["--decrypt", "--list-only"], raw)
        if "BEGIN_DECRYPTION" not in answer:
            raise SecretsError(self._refusal(answer, "FILE"))
        return sorted({fields[0] for fields in answer.every("ENC_TO")} - {_ANONYMOUS})

    def fingerprint(self, recipient: str) -> str:
        """Return the full fingerprint of a key in the keyring, by id or address. Raises SecretsError."""
        if (why := self.unusable(recipient)) is not None:
            raise SecretsError(why)
        return next(row[9] for row in self._listed(recipient) if row[0] == "fpr")

    def ids(self, recipient: str) -> list[str]:
        """Return the ids of a key in the keyring and of its parts, by one of which a message names it."""
        return [row[4] for row in self._listed(recipient) if row[0] in {"pub", "sub"}]

    def owner(self, recipient: str) -> str | None:
        """Return whose a key in the keyring is: its first name and address; None if there is none."""
        return next((row[9].replace("\\x3a", ":") for row in self._listed(recipient) if row[0] == "uid"), None)

    def unusable(self, recipient: str) -> str | None:
        """Return why nothing can be encrypted to a key, with the next step; None if it can."""
        rows = self._listed(recipient)
        keys = [row for row in rows if row[0] == "pub"]
        if not keys:
            return f"gpg has no public key {recipient}: import it with `gpg --import`"
        state = {row[1] for row in keys} | {row[1] for row in rows if row[0] == "sub" and "e" in row[11]}
        if "r" in state:
            return f"the key {recipient} is revoked: use the one that took its place"
        if "e" in state:
            return f"the key {recipient} has expired: extend it (`gpg --quick-set-expire`), or use another"
        if all("E" not in row[11] for row in keys):
            return f"the key {recipient} cannot encrypt: add a subkey that can (`gpg --quick-add-key`)"
        return None

    def _listed(self, recipient: str) -> list[list[str]]:
        """Return the rows that gpg lists of a key, each with its fields."""
        listed = self._ask(["--list-keys", "--", recipient], b"").data.decode("utf-8", "replace")
        return [line.split(":") for line in listed.splitlines()]

    def _ask(self, args: list[str], raw: bytes) -> _Answer:
        if self._program is None:
            self._program = self._start()
        try:
            answer = self._program.ask(args, raw)
        except OSError as error:
            self._program = None
            raise SecretsError(f"gpg does not start: {error.strerror}") from None
        if answer.returncode == -9:
            raise SecretsError(
                f"gpg did not answer within {TIMEOUT_SECONDS:.0f} seconds: is its agent hung "
                "(`gpgconf --kill gpg-agent`), or a smartcard waiting to be touched?"
            )
        return answer

    def refuse_checkout(self) -> None:
        """Raise SecretsError if a commit can control files in the home."""
        objection = None if self._checkout is None else objection_to_home(self._checkout, self.home)
        if objection is not None:
            raise SecretsError(objection)

    def _start(self) -> _Program:
        self.refuse_checkout()
        home = self.home or os.environ.get("GNUPGHOME")
        if home and not Path(home).is_dir():
            raise SecretsError(f"the GnuPG home {home} is not there: set gnupg_home, or make it with `mkdir -m 700`")
        if home and not os.access(home, os.R_OK | os.X_OK):
            raise SecretsError(f"the GnuPG home {home} cannot be read by this user: it has to be theirs, mode 700")
        program = shutil.which("gpg")
        if program is None:
            raise SecretsError("gpg is not installed: install GnuPG 2.2 or later (the package is often named gnupg)")
        try:
            environment = {**os.environ, "LC_ALL": "C"}
            return _Program(gpgbinary=program, gnupghome=self.home, env=environment, options=_QUIET)
        except OSError:
            raise SecretsError(f"gpg does not start: {program} cannot be run") from None
        except ValueError:
            raise SecretsError("gpg does not start: run `gpg --list-config` to see why (its gpg.conf?)") from None

    def _refusal(self, answer: _Answer, file: str) -> str:
        """Return why a message was not decrypted, and what to do."""
        keys = ", ".join(sorted({fields[0] for fields in answer.every("ENC_TO")} - {_ANONYMOUS})) or "hidden recipients"
        failed = [fields for fields in answer.every("ERROR") if fields[0] == "pkdecrypt_failed" and fields[1:]]
        codes = {int(fields[1]) & 0xFFFF for fields in failed if fields[1].isdigit()}
        if "BADMDC" in answer or "BADSIG" in answer:
            return "it was altered after it was encrypted (its integrity check failed): restore it from git's history"
        if "NEED_PASSPHRASE_SYM" in answer:
            return "it is encrypted with a passphrase, not to a key: encrypt it to this machine's key"
        # Its fields are the way of protecting, the cipher, and since GnuPG 2.3 the newer way of protecting.
        if any(fields[0] == "0" and fields[2:] in ([], ["0"]) for fields in answer.every("DECRYPTION_INFO")):
            return "it has no integrity protection, so that nobody can tell whether it was altered: encrypt it anew"
        if answer.no_agent:
            return self._no_agent()
        if codes & _PASSPHRASE:
            return (
                f"its key ({keys}) asks for a passphrase, and there is no terminal to ask on: run "
                f"`gpg --decrypt {file}` once in a terminal, give the agent the passphrase with gpg-preset-passphrase, "
                "or use a key without one"
            )
        if codes - {_NO_SECRET_KEY}:
            return f"its key ({keys}) could not be used: {answer.last_word()}"
        if "DECRYPTION_KEY" in answer or ("ENC_TO" in answer and "NO_SECKEY" not in answer):
            return "it is damaged or cut off: restore it from git's history, or encrypt it anew"
        if "NO_SECKEY" in answer:
            return (
                f"there is no secret key for it: it is encrypted to {keys}; import that key into {self._where()}, "
                "or have it encrypted to this machine's key too"
            )
        if "PLAINTEXT" in answer:
            return "it is a PGP message, but not encrypted: rotate what it holds, then encrypt it to a key"
        if "NODATA" in answer or answer.returncode == 2:
            return (
                "it is not a PGP message, or a damaged one: if it holds secrets in the clear, rotate them, then "
                "encrypt it to a key"
            )
        return self._failed(answer)

    def _failed(self, answer: _Answer) -> str:
        return self._no_agent() if answer.no_agent else f"gpg failed: {answer.last_word()}"

    def _no_agent(self) -> str:
        return (
            f"gpg cannot reach its agent in {self._where()}: the folder has to be writable or have its socket, and its "
            "path short (86 characters); try `gpgconf --launch gpg-agent`"
        )

    def _where(self) -> str:
        return self.home or os.environ.get("GNUPGHOME") or "the GnuPG home of this user"
