"""Verify an export of the history: `python -I verify.py DIR --key KEY`.

This file needs only Python and its package `cryptography`, not the program that wrote the export, nor its state. It
says 0 or 1:

- The note `checkpoint.note` is signed with KEY. It says of which history it is, how many lines that has, and the root
  of a tree over all of them, as in RFC 6962. Ask for KEY where nobody could have replaced it.
- Each line of `lines.jsonl` has the digest that it claims: SHA-256(before, newline, SHA-256(salt, line)), where the
  line is JSON with sorted keys and no blanks, and `before`, the digest of the line before, is in hexadecimal, as is
  the inner digest.
- That digest is in the tree, at the line's place, which counts from 0: `proof` leads from it to the root.

So the line was there, at this place, when the note was signed, and was not changed since. What was left out is not
proved by it; with --complete, fewer lines than the note covers are an error. With --earlier NOTE, a note that you kept,
all lines that it covers have to be here as they were: so nobody has written the history anew since. Nor is proved that
the program that wrote the lines told the truth. A token `checkpoint.tsr` says when the note was there: it is not
checked here, use `openssl ts -verify -data checkpoint.note -in checkpoint.tsr -CAfile CA`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path


def main() -> int:
    """Verify what the command line names."""
    parser = argparse.ArgumentParser(description="Verify an export of the history.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--key", required=True, help="what `reconcile history checkpoint --public-key` printed")
    parser.add_argument("--complete", action="store_true", help="fewer lines than the note covers are an error")
    parser.add_argument("--earlier", type=Path, metavar="NOTE", help="a note that you kept: its lines must be the same")
    given = parser.parse_args()
    try:
        origin, size, root = checkpoint((given.folder / "checkpoint.note").read_text(encoding="utf-8"), given.key)
        digests, erased = lines(given.folder / "lines.jsonl", size, root)
        seen = len(digests)
        if given.complete and seen < size:
            raise Wrong(f"{size - seen} of {size} lines were left out")
        if given.earlier is not None:
            unchanged(digests, origin, *checkpoint(given.earlier.read_text(encoding="utf-8"), given.key))
    except (Wrong, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        say(f"not verified: {error if isinstance(error, (Wrong, OSError)) else 'a file is not as it has to be'}")
        return 1
    say(f"verified: {seen} of {size} lines of {origin}{f', {erased} of them erased' if erased else ''}")
    if given.earlier is not None:
        say(f"All lines that {given.earlier} covers are as they were.")
    say("Lines that were left out are not proved by this. A timestamp, checkpoint.tsr, was not checked.")
    return 0


class Wrong(Exception):
    """Something does not verify."""


def checkpoint(note: str, key: str) -> tuple[str, int, bytes]:
    """Return the origin, the number of lines and the root of a note that was signed with this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    name, number, encoded = key.split("+", 2)
    public = base64.b64decode(encoded, validate=True)
    if hashlib.sha256(name.encode() + b"\n" + public).digest()[:4].hex() != number or public[:1] != b"\x01":
        raise Wrong("the key is damaged")
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        sign, signer, value = line.split(" ", 2)
        raw = base64.b64decode(value, validate=True)
        if (sign, signer, raw[:4].hex()) != ("—", name, number):
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(raw[4:], text.encode())
        except InvalidSignature:
            break
        origin, size, root = text.splitlines()[:3]
        return origin, int(size), base64.b64decode(root, validate=True)
    raise Wrong("the checkpoint is not signed with this key, or it was changed")


def lines(file: Path, size: int, root: bytes) -> tuple[dict[int, str], int]:
    """Verify each line; return the digests by place, and how many lines were erased."""
    digests: dict[int, str] = {}
    befores: dict[int, str] = {}
    last = -1
    with file.open(encoding="utf-8") as opened:
        for text in opened:
            entry = json.loads(text, object_pairs_hook=unambiguous)
            shown = {"line", "salt", "before"} if "line" in entry else set()
            if entry.keys() != {"place", "digest", "proof"} | shown:
                raise Wrong("a line has more than a line has, or less")
            place, digest = entry["place"], entry["digest"]
            if not last < place < size:
                raise Wrong(f"line {place} is there twice or out of order, or is none of the {size} lines")
            if "line" in entry:
                befores[place] = entry["before"]
                if digest != digest_of(entry["line"], entry["salt"], entry["before"]):
                    raise Wrong(f"line {place} does not have the digest that it claims")
            if root != root_from(digest, place, size, [bytes.fromhex(each) for each in entry["proof"]]):
                raise Wrong(f"line {place} is not in the tree that was signed")
            digests[place] = digest
            last = place
    for place, before in befores.items():
        if before != digests.get(place - 1, before if place else ""):
            raise Wrong(f"line {place} does not follow the one before")
    return digests, len(digests) - len(befores)


def unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of JSON, in which nothing stands twice: a digest is of one, and somebody may read the other."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Wrong("a line says something twice")
    return made


def unchanged(digests: dict[int, str], origin: str, its_origin: str, size: int, root: bytes) -> None:
    """Compare the first lines with what an earlier note says of them."""
    if its_origin != origin:
        raise Wrong(f"the earlier note is of {its_origin}")
    if missing := sum(place not in digests for place in range(size)):
        raise Wrong(f"{missing} of the {size} lines that the earlier note covers are not here")
    level = [hashlib.sha256(b"\x00" + bytes.fromhex(digests[place])).digest() for place in range(size)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + level[len(level) & ~1 :]
    if (level or [hashlib.sha256(b"").digest()]) != [root]:
        raise Wrong(f"one of the {size} lines that the earlier note covers was changed, moved or taken out since")


def digest_of(line: object, salt: str, before: str) -> str:
    """Return the digest of a line."""
    canonical = json.dumps(line, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    content = hashlib.sha256(bytes.fromhex(salt) + canonical.encode()).hexdigest()
    return hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()


def root_from(digest: str, place: int, size: int, proof: list[bytes]) -> bytes | None:
    """Return the root that a proof leads to, as RFC 9162, 2.1.3.2, computes it; None if it has another length."""
    node, last = hashlib.sha256(b"\x00" + bytes.fromhex(digest)).digest(), size - 1
    for beside in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            node = hashlib.sha256(b"\x01" + beside + node).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\x01" + node + beside).digest()
        place, last = place >> 1, last >> 1
    return node if last == 0 else None


def say(text: str) -> None:
    """Write a line, without control characters."""
    sys.stdout.write("".join(each if each.isprintable() else "?" for each in text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
