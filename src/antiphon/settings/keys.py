"""The keys that open a server: made, stored as salted hashes, and compared in constant time.

A stored key is `sha256$<salt>$<digest>`, both in hexadecimal: the digest is SHA-256 over the 16 bytes of the salt and
those of the key. No error here repeats a key, or what somebody took for the stored form of one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping

__all__ = ["LONGEST", "SHORTEST", "AccessKeys", "environment_keys", "hash_key", "name_fault", "new_key"]

SHORTEST = 20
"""Characters that a key has at least."""

LONGEST = 512
"""Bytes of a key that is presented, beyond which it is not even hashed."""

_STORED = re.compile(r"sha256\$([0-9a-f]{32})\$([0-9a-f]{64})")


def new_key() -> str:
    """Return a key that nobody has yet: `ap-` and 43 characters that stand for 256 random bits."""
    return f"ap-{secrets.token_urlsafe(32)}"


def hash_key(key: str) -> str:
    """Return what to store of *key*, with a salt of its own.

    SHA-256 is fast, and right here: a slow hash makes up for passwords that can be guessed, and 256 random bits cannot
    be, at any speed. A slow one would let anybody keep the server busy by presenting wrong keys. What can be guessed
    is therefore refused.

    Raises:
        ValueError: *key* is too short, too long, or holds what no HTTP header does.
    """
    if len(key) < SHORTEST:
        raise ValueError(
            f"A key must have at least {SHORTEST} characters, or it can be guessed: `antiphon key new NAME` makes one."
        )
    if len(key) > LONGEST:
        raise ValueError(f"A key must have no more than {LONGEST} characters.")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("A key must be of printable ASCII characters without spaces: no other reaches a server whole.")
    salt = secrets.token_bytes(16)
    return f"sha256${salt.hex()}${_digest(salt, key.encode()).hex()}"


def environment_keys(text: str) -> dict[str, str]:
    """Return the stored forms of the keys in *text*, which has commas between them, as `env-1`, `env-2` and so on.

    Raises:
        ValueError: One of them cannot be a key.
    """
    keys = [key for part in text.split(",") if (key := part.strip())]
    return {f"env-{number}": hash_key(key) for number, key in enumerate(keys, 1)}


def name_fault(name: str) -> str | None:
    """Return what is wrong with *name* as that of a key in a file, as a sentence; `None` if nothing is."""
    if not (name.strip() and name.isprintable() and len(name) <= 64):
        return "The name of a key has 1 to 64 printable characters."
    if re.fullmatch(r"env-\d+", name):
        return "Names such as env-1 are those of the keys in ANTIPHON_SERVER_KEYS: choose another."
    return None


class AccessKeys:
    """The keys that open a server, by name.

    Args:
        stored: Their stored forms, by the name of whoever has the key.

    Raises:
        ValueError: A stored form is none; the message has the name of the key, and nothing of the form.
    """

    def __init__(self, stored: Mapping[str, str] | None = None) -> None:
        self._stored = tuple((name, *_parsed(name, form)) for name, form in (stored or {}).items())

    def check(self, presented: str) -> str | None:
        """Return the name of the key *presented*, or `None` if it is none of these.

        How long that takes tells nothing of which key matched: all of them are compared, some 2 µs each.
        """
        key = presented.encode(errors="surrogatepass")
        found = None
        if len(key) <= LONGEST:
            for name, salt, digest in self._stored:
                if hmac.compare_digest(_digest(salt, key), digest) and found is None:
                    found = name
        return found

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[str]:
        return (name for name, _, _ in self._stored)

    def __repr__(self) -> str:
        return f"AccessKeys({', '.join(self)})"


def _digest(salt: bytes, key: bytes) -> bytes:
    return hashlib.sha256(salt + key).digest()


def _parsed(name: str, form: str) -> tuple[bytes, bytes]:
    if (match := _STORED.fullmatch(form)) is None:
        raise ValueError(
            f"What is stored of the key {name!r} must be sha256$<32 hexadecimal digits>$<64 hexadecimal digits>: "
            "`antiphon key new NAME` makes a key and prints its line."
        )
    return bytes.fromhex(match[1]), bytes.fromhex(match[2])
