"""The keys that open a server."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.settings.keys import LONGEST, SHORTEST, AccessKeys, environment_keys, hash_key, name_fault, new_key

KEY = "canary-0123456789abcdefghij"
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=SHORTEST, max_size=60)


def test_new_keys() -> None:
    """A new key is `ap-` and 256 random bits in 43 characters that go into any header, and no two are alike."""
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"ap-[A-Za-z0-9_-]{43}", key) for key in made)


def test_the_stored_form() -> None:
    """What is stored is the digest of salt and key; the salt is another each time, and the key is not in it."""
    first, second = hash_key(KEY), hash_key(KEY)
    assert first != second
    name, salt, digest = first.split("$")
    assert (name, len(salt)) == ("sha256", 32)
    assert digest == hashlib.sha256(bytes.fromhex(salt) + KEY.encode()).hexdigest()
    assert KEY not in first


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("canary-012345678901", "at least 20 characters"),
        ("", "at least 20 characters"),
        ("canary" * 86, "no more than 512"),
        ("canary-0123456789 abcdef", "without spaces"),
        ("canary-0123456789\nabcdef", "without spaces"),
        ("canary-0123456789-äöü-abc", "ASCII"),
    ],
)
def test_what_cannot_be_a_key(key: str, why: str) -> None:
    """What can be guessed, or does not reach a server in a header, is refused and not repeated."""
    with pytest.raises(ValueError, match=why) as raised:
        hash_key(key)
    assert "canary" not in str(raised.value)


@given(st.dictionaries(st.text(max_size=5), KEYS, max_size=5), KEYS)
def test_each_key_opens_and_no_other(keys: dict[str, str], other: str) -> None:
    """A key is found under its name, the first where two have the same key; any other is found under none."""
    access = AccessKeys({name: hash_key(key) for name, key in keys.items()})
    for key in keys.values():
        assert access.check(key) == next(name for name in keys if keys[name] == key)
    if other not in keys.values():
        assert access.check(other) is None
    assert (len(access), list(access), bool(access)) == (len(keys), list(keys), bool(keys))


@given(st.text())
def test_whatever_is_presented(presented: str) -> None:
    """Any text can be presented, lone surrogates too; none but the key opens."""
    assert AccessKeys({"a": hash_key(KEY)}).check(presented) is None


@pytest.mark.parametrize("presented", ["", "\ud800", "ä" * 30, KEY + "\n", KEY.upper(), KEY[:-1], KEY + "\0"])
def test_what_opens_nothing(presented: str) -> None:
    """A key opens as it is and not otherwise."""
    access = AccessKeys({"a": hash_key(KEY)})
    assert access.check(presented) is None
    assert access.check(KEY) == "a"


def test_too_long_a_key() -> None:
    """A key of 512 bytes opens; what is longer opens nothing, even where its digest is what is stored."""
    key = "k" * LONGEST
    salt = bytes(16)
    longer = f"sha256${salt.hex()}${hashlib.sha256(salt + key.encode() + b'k').hexdigest()}"
    access = AccessKeys({"long": hash_key(key), "longer": longer})
    assert access.check(key) == "long"
    assert access.check(key + "k") is None


def test_every_key_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys are compared, in constant time, whichever it is that opens."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("antiphon.settings.keys.hmac.compare_digest", compare)
    keys = {name: f"{KEY}-{name}" for name in "abc"}
    access = AccessKeys({name: hash_key(key) for name, key in keys.items()})
    for key in (*keys.values(), "wrong"):
        compared.clear()
        access.check(key)
        assert len(compared) == 3
        assert all(len(one) == len(other) == 32 for one, other in compared)


GOOD = f"sha256${'0' * 32}${'0' * 64}"


@pytest.mark.parametrize(
    "form", ["", "canary", "sha256$", GOOD.upper(), GOOD + "0", GOOD + "\n", "md5" + GOOD[6:], " " + GOOD, GOOD[:-1]]
)
def test_what_is_no_stored_form(form: str) -> None:
    """What is not the form of a stored key is an error with the name of the key, and nothing of the form."""
    with pytest.raises(ValueError, match="stored of the key 'alice' must be sha256") as raised:
        AccessKeys({"alice": form})
    assert "canary" not in str(raised.value)
    assert GOOD not in str(raised.value)


def test_names_alone_are_shown() -> None:
    """`repr` has the names of the keys, and nothing of what is stored."""
    form = hash_key(KEY)
    assert repr(AccessKeys({"alice": form, "bob": form})) == "AccessKeys(alice, bob)"
    assert repr(AccessKeys()) == "AccessKeys()"
    assert not AccessKeys()


def test_keys_in_the_environment() -> None:
    """The keys in the environment have commas between them, and numbers for names."""
    access = AccessKeys(environment_keys(f" {KEY} ,, {KEY}-2,"))
    assert list(access) == ["env-1", "env-2"]
    assert (access.check(KEY), access.check(f"{KEY}-2")) == ("env-1", "env-2")
    assert environment_keys(" , ") == {}


def test_a_short_key_in_the_environment() -> None:
    """A key that can be guessed is refused there too, and not repeated."""
    with pytest.raises(ValueError, match="at least 20 characters") as raised:
        environment_keys(f"{KEY},canary")
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "Zoë's laptop", "environment", "env-", "x" * 64])
def test_names(name: str) -> None:
    """A key has any name that can be printed."""
    assert name_fault(name) is None


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\nb", "env-1", "env-999"])
def test_what_cannot_be_a_name(name: str) -> None:
    """A key's name is no empty, endless or unprintable one, nor that of a key in the environment."""
    assert name_fault(name) is not None
