"""Read the SOPS format: YAML and JSON files whose values are encrypted and whose keys are not.

Each value is AES-256-GCM under the file's data key, with the path of keys to it (`a:b:`, without places in lists) as
additional data, so that no value can be moved. An encrypted MAC over all values in order detects added, removed and
swapped ones. What this reader does not support is left to the `sops` program: other kinds of keys, rules by comment,
and some unencrypted values.

The MAC covers Go's format of each value: `True`, `1.5`, `100000`, never an exponent. An encrypted value has its type;
an unencrypted one has the type that Go's YAML reads, unlike in our own files, where numbers and dates stay the text
that was written. Where the two are hard to reconcile, `Unsupported` leaves the file to the `sops` program.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json as jsonlib
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from reconciler.model.errors import SecretsError
from reconciler.model.value import Frozen, Unshown
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sops_keys import Unsupported, data_key, key_services
from reconciler.secrets.sops_keys import recipients as recipients_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TIMEOUT_SECONDS = 60.0
"""Seconds for the `sops` program, which may have to ask a key service on the network."""

_ENCRYPTED_ONLY = hashlib.sha256(b"sops").digest()
"""What a MAC over the encrypted values alone starts with, so that it is never the MAC over all of them."""

_VALUE = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]+),tag:([^,]+),type:(\w+)\]")
_RULES = ("unencrypted_suffix", "encrypted_suffix", "unencrypted_regex", "encrypted_regex")
_COMMENT_RULES = ("unencrypted_comment_regex", "encrypted_comment_regex")

LONGEST_PATTERN = 1000
"""Characters of a rule's pattern: a match is always quick, but to compile a deep pattern takes seconds."""

_RESTORE = "restore the file from git's history"


def _nowhere(url: str) -> NoReturn:  # noqa: ARG001
    raise SecretsError("sops was not called: no key service may be asked")


class SopsFile:
    """A file in the SOPS format. Raises SecretsError where it is none, for then nothing in it is encrypted."""

    def __init__(self, raw: bytes, gnupg: Gnupg, *, json: bool) -> None:
        self._raw = raw
        self._gnupg = gnupg
        self._kind = "json" if json else "yaml"
        try:
            data = read(raw, f"file.{self._kind}").data
        except BrokenFile as error:
            raise SecretsError(_where(error)) from None
        if not isinstance(data, dict):
            raise SecretsError("it is not a map of keys to values")
        if not isinstance(data.get("sops"), Mapping):
            raise SecretsError(
                "not encrypted: it has no `sops` part; rotate every secret in it, then encrypt it with "
                "`sops encrypt -i`"
            )
        self._data: dict[str, Any] = data
        self._info: Mapping[str, Any] = data["sops"]
        """Which is not authenticated."""

    @property
    def recipients(self) -> list[str]:
        """Return the keys that it says it is encrypted to."""
        return recipients_of(self._info)

    def hosts(self) -> list[str]:
        """Return the addresses that the `sops` program may ask for the file's data key, according to the file.

        Raises SecretsError if that is unknown.
        """
        return key_services(self._data)

    def bare(self) -> list[str]:
        """Return the keys whose values stand in it as they are, by its rule."""
        values = ((name, value) for name, value in self._data.items() if name != "sops" and value not in (None, ""))
        return [name for name, value in values if not (isinstance(value, str) and _VALUE.fullmatch(value))]

    def decrypt(self, allow: Callable[[str], None] = _nowhere) -> dict[str, Any]:
        """Return what is in it, without its `sops` part.

        `allow` raises SecretsError for an address that the `sops` program may not ask. Raises SecretsError where no key
        opens the file, and where a value, its place or the MAC was altered.
        """
        try:
            return self._decrypt()
        except Unsupported as unsupported:
            for url in self.hosts():
                allow(url)
            args = ["--decrypt", "--input-type", self._kind, "--output-type", "json", "/dev/stdin"]
            # There no .sops.yaml of a commit lies.
            content: dict[str, Any] = jsonlib.loads(_run(args, self._raw, self._gnupg, "/", f"it has {unsupported}"))
            return content

    def _decrypt(self) -> dict[str, Any]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        info, tree = self._info, leaves(self._data, _composed(self._raw) if self._kind == "yaml" else None)
        del tree["sops"]
        secret, mac = _rule(info), info.get("mac")
        if not isinstance(mac, str) or not mac:
            raise SecretsError(
                "it has no MAC, so that nobody can tell whether it was altered: encrypt it anew with sops"
            )
        key = data_key(info, self._gnupg)
        if len(key) != 32:
            raise SecretsError(f"its data key does not have 256 bits: {_RESTORE}")
        reader = _Reader(AESGCM(key), secret, encrypted_only=info.get("mac_only_encrypted") is True)
        opened: dict[str, Any] = reader.open(tree, ())
        _, expected = reader.value(mac, str(info.get("lastmodified")), "its MAC or `lastmodified`")
        if not hmac.compare_digest(expected, reader.digest.hexdigest().upper().encode()):
            raise SecretsError(
                f"its MAC does not match: a value was added, removed or changed without sops; {_RESTORE}"
            )
        return opened

    def rekeyed(self, recipients: list[str]) -> bytes:
        """Return the file encrypted to exactly these keys, and with a new data key, by the `sops` program.

        Only for files with OpenPGP and age keys: for others, a key service would have to be asked. Raises SecretsError.
        """
        if self.hosts() or self._info.get("key_groups"):
            raise SecretsError("it has keys of a key service, or groups of keys: change them with `sops updatekeys`")
        before = set(self.recipients)
        wanted = {key if age.is_recipient(key) else self._gnupg.fingerprint(key) for key in recipients}
        changes = [("add", key) for key in sorted(wanted - before)] + [("rm", key) for key in sorted(before - wanted)]
        kinds = {key: "age" if age.is_recipient(key) else "pgp" for _, key in changes}
        options = [word for how, key in changes for word in (f"--{how}-{kinds[key]}", key)]
        return self._edited(["rotate", "--in-place", *options])

    def with_value(self, name: str, value: str) -> bytes:
        """Return the file with a value of its own set, which is no secret, by the `sops` program.

        Raises SecretsError.
        """
        return self._edited(["set"], jsonlib.dumps([name]), jsonlib.dumps(value))

    def _edited(self, before: list[str], *after: str) -> bytes:
        """Have the `sops` program change the file, whose name stands between these arguments."""
        with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:  # it holds what is encrypted, no .sops.yaml
            file = Path(folder, f"file.{self._kind}")
            file.write_bytes(self._raw)
            _run([*before, str(file), *after], b"", self._gnupg, folder, "")
            return file.read_bytes()


def _composed(raw: bytes) -> Any:
    """Compose the YAML nodes: without resolvers, a plain value keeps its text, which the MAC covers."""
    try:
        return yaml.compose(raw, Loader=yaml.CBaseLoader)
    except yaml.YAMLError:
        raise Unsupported("an anchor that stands twice") from None


def _where(error: BrokenFile) -> str:
    problem = error.problem
    return problem.message if problem.line is None else f"line {problem.line}: {problem.message}"


class _Reader:
    """Decrypts values and adds each to the digest."""

    def __init__(self, cipher: AESGCM, secret: Callable[[tuple[str, ...]], bool], *, encrypted_only: bool) -> None:
        self._cipher = cipher
        self._secret = secret
        self._encrypted_only = encrypted_only
        self.digest = hashlib.sha512(_ENCRYPTED_ONLY if encrypted_only else b"")

    def open(self, item: Any, path: tuple[str, ...]) -> Any:
        """Decrypt everything below a path."""
        if item is None:
            return None
        if isinstance(item, dict):
            return {key: self.open(below, (*path, key)) for key, below in item.items()}
        if isinstance(item, list):
            return [self.open(below, path) for below in item]
        if not self._secret(path):
            if not self._encrypted_only:
                self.digest.update(counted(item))
            return item.value
        name = ".".join(path)
        if item.text is None:
            raise _bare(name)
        value, bytes_ = self.value(item.text, ":".join(path) + ":", name)
        self.digest.update(bytes_)
        return value

    def value(self, text: str, place: str, name: str) -> tuple[Any, bytes]:
        """Decrypt one value; returns it and the bytes that the MAC covers. SOPS leaves an empty text unencrypted."""
        if not text:
            return "", b""
        from cryptography.exceptions import InvalidTag

        match = _VALUE.fullmatch(text)
        if match is None:
            raise _bare(name)
        try:
            data, nonce, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3])
            plain = self._cipher.decrypt(nonce, data + tag, place.encode())
        except (InvalidTag, ValueError):
            raise SecretsError(f"{name} was altered, moved or encrypted with another key: {_RESTORE}") from None
        try:
            return typed(plain, match[4])
        except ValueError:
            raise SecretsError(f"{name} is not of the type that it claims, or not text") from None


def _bare(name: str) -> SecretsError:
    return SecretsError(f"{name} is not encrypted, and has to be: rotate it, then set it with `sops edit`")


def _rule(info: Mapping[str, Any]) -> Callable[[tuple[str, ...]], bool]:
    """Return whether the value at a path is encrypted: by the suffix of any key on the way, or by a pattern."""
    for name in _COMMENT_RULES:
        if info.get(name):
            raise Unsupported(f"a rule by comment ({name})")
    given = {name: str(info[name]) for name in _RULES if info.get(name)} or {"unencrypted_suffix": "_unencrypted"}
    if len(given) > 1:
        raise SecretsError(f"it has more than one rule ({', '.join(given)}): {_RESTORE}")
    ((name, pattern),) = given.items()
    meets = _ends_with(pattern) if name.endswith("_suffix") else _found_by(pattern, name)
    wanted = name.startswith("encrypted")
    return lambda path: any(map(meets, path)) == wanted


def _ends_with(suffix: str) -> Callable[[str], bool]:
    return lambda key: key.endswith(suffix)


def _found_by(pattern: str, name: str) -> Callable[[str], bool]:
    """Search for a pattern as Go does, in linear time: Python's own engine can be made to take years."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        if len(pattern) > LONGEST_PATTERN:
            raise Unsupported(f"a regular expression of more than {LONGEST_PATTERN:,} characters ({name})")
        search = re2.compile(pattern, options).search
    except re2.error:
        raise Unsupported(f"a regular expression that is none of Go's ({name})") from None
    return lambda key: search(key) is not None


def _run(args: list[str], raw: bytes, gnupg: Gnupg, folder: str, why: str) -> bytes:
    """Run the `sops` program, and return what it prints. `why` begins the messages of what goes wrong.

    Its own messages are not repeated, because they quote values.
    """
    program = shutil.which("sops")
    if program is None:
        raise SecretsError(f"{f'{why}; ' if why else ''}that needs the `sops` program, which is not installed here")
    gnupg.refuse_checkout()
    lead = f"{why}, and the `sops` program" if why else "the `sops` program"
    try:
        done = subprocess.run(  # noqa: S603  no shell; keys stand behind options
            [program, *args],
            input=raw,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            env=dict(os.environ) if gnupg.home is None else {**os.environ, "GNUPGHOME": gnupg.home},
            cwd=folder,
            start_new_session=True,  # no terminal to ask on
        )
    except subprocess.TimeoutExpired:
        raise SecretsError(f"{lead} did not answer in {TIMEOUT_SECONDS:.0f} seconds") from None
    except OSError as error:
        raise SecretsError(f"{lead} does not start: {error.strerror}") from None
    if done.returncode:
        again = f"run `sops {args[0].removeprefix('--')}` on it"
        raise SecretsError(f"{lead} refuses it (exit code {done.returncode}): {again}")
    return done.stdout


# --- values -----------------------------------------------------------------------------------------------------------

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {word: name for name in ("true", "false") for word in (name, name.capitalize(), name.upper())}
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d{1,3})?|[-+]?\.\d+([eE][-+]?\d{1,3})?")
_DOUBTFUL = re.compile(
    r"[-+]?(0[xX][\da-fA-F_]+|0[oObB]?[\d_]+|\d[\d_]*(\.[\d_]*)?([eE][-+]?[\d_]+)?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)|\d{4}-\d\d?-\d\d?([Tt ].*)?"
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Leaf(Frozen):
    """A value as it stands in the file: what it reads as, and its text where it is one.

    `plain` is YAML without quotes, which may be read as another type than text.
    """

    value: Unshown[Any]
    text: Unshown[str | None]
    plain: bool


def leaves(data: Any, node: Any) -> Any:
    """Return the structure with its values as `Leaf`; None stays None, because SOPS skips it.

    `node` is what a YAML value was made from, composed without resolvers; None for JSON.
    """
    if isinstance(data, dict):
        below = [value for _, value in node.value] if node else [None] * len(data)
        return {key: leaves(item, part) for (key, item), part in zip(data.items(), below, strict=True)}
    if isinstance(data, list):
        return [leaves(item, part) for item, part in zip(data, node.value if node else [None] * len(data), strict=True)]
    if node is None:
        return None if data is None else Leaf(data, data if isinstance(data, str) else None, plain=False)
    plain = node.style not in {"'", '"', "|", ">"}
    return None if plain and node.value in _NULLS else Leaf(data, node.value, plain)


def typed(plain: bytes, kind: str) -> tuple[Any, bytes]:
    """Return a decrypted value in its type, and the bytes that the MAC covers.

    Raises ValueError where it is not of that type, Unsupported for a type that is not known here.
    """
    text = plain.decode()
    match kind:
        case "str" | "bytes" | "time":
            return text, plain
        case "int" | "int64":
            return int(text), str(int(text)).encode()
        case "float":
            # SOPS calls every number in JSON a float: one without a fraction stays whole.
            return int(text) if text.lstrip("-").isdecimal() else float(text), _go_float(text)
        case "bool":
            truth = text in {"1", "t", "T", "true", "True", "TRUE"}
            return truth, str(truth).encode()
        case _:
            raise Unsupported(f"values of type {kind}")


def counted(leaf: Leaf) -> bytes:
    """Return the bytes that the MAC covers of an unencrypted value."""
    text = leaf.text
    if text is None:
        return str(leaf.value).encode() if isinstance(leaf.value, bool) else _go_float(leaf.value)
    if not leaf.plain or _INSTANT.fullmatch(text):
        return text.encode()
    if text in _TRUTHS:
        return _TRUTHS[text].capitalize().encode()
    if _WHOLE.fullmatch(text):
        return str(int(text)).encode()
    if _FLOAT.fullmatch(text):
        return _go_float(text)
    if _DOUBTFUL.fullmatch(text):
        raise Unsupported("an unencrypted value without quotes that may be a number or a date")
    return text.encode()


def _go_float(number: float | str) -> bytes:
    """Format a number in Go's shortest form without an exponent."""
    try:
        value = float(number)
    except OverflowError:
        raise Unsupported("a number beyond what a float holds") from None
    if not math.isfinite(value):
        return {"inf": b"+Inf", "-inf": b"-Inf"}.get(str(value), b"NaN")
    text = format(Decimal(repr(value)), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
