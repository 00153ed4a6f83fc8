"""The error tree."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import openai
import pytest

from antiphon import errors
from antiphon.completion import Completion

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "error_class"]
API_CLASSES = [cls for cls in CLASSES if issubclass(cls, errors.APIError)]
FIELDS: dict[str, Any] = {
    "provider": "p",
    "model": "m",
    "status": 499,
    "code": "c",
    "type": "t",
    "param": "$.x",
    "body": {"error": [1]},
    "request_id": "r",
    "retryable": True,
    "retry_after": 1.5,
}


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def lines_of_the_tree() -> dict[str, str]:
    """Return the class that stands above each class in the drawing, by the place where its name begins."""
    above: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.split() if word.endswith("Error") and word.isidentifier()), None)
        if name is None or not (line.startswith("    ") and ("──" in line or name == "AntiphonError")):
            continue
        place = line.index(name)
        path = [entry for entry in path if entry[0] < place]
        above[name] = path[-1][1] if path else "Exception"
        path.append((place, name))
    return above


def test_the_drawing_is_true() -> None:
    """The tree in the docstring has every class, each below its base."""
    assert lines_of_the_tree() == {cls.__name__: cls.__bases__[0].__name__ for cls in CLASSES}


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.NestAsyncioError, RuntimeError),
        (errors.ProviderNotFoundError, LookupError),
        (errors.ModelNotFoundError, LookupError),
        (errors.MissingExtraError, ImportError),
        (errors.APITimeoutError, TimeoutError),
    ],
)
def test_builtin_bases(cls: type[errors.AntiphonError], builtin: type[Exception]) -> None:
    """What Python has a class for can be caught by it too."""
    assert issubclass(cls, builtin)


def test_names_of_the_openai_client() -> None:
    """Where the OpenAI client has an error of that name, it has the same base here."""
    shared = {cls: getattr(openai, cls.__name__) for cls in CLASSES if hasattr(openai, cls.__name__)}
    assert len(shared) == 12
    for own, theirs in shared.items():
        for base, their_base in shared.items():
            assert issubclass(own, base) is issubclass(theirs, their_base), (own, base)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.APIStatusError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (499, errors.APIStatusError),
        (500, errors.InternalServerError),
        (529, errors.InternalServerError),
        (600, errors.InternalServerError),
    ],
)
def test_error_class(status: int, expected: type[errors.APIStatusError]) -> None:
    """Each status has its class."""
    assert expected is errors.error_class(status)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_message(cls: type[errors.AntiphonError]) -> None:
    """The message is what `str()` gives; provider and model are known or `None`."""
    error = cls("Words.", provider="p")
    assert (str(error), error.message, error.args) == ("Words.", "Words.", ("Words.",))
    assert (error.provider, error.model) == ("p", None)


@pytest.mark.parametrize("cls", API_CLASSES, ids=lambda cls: cls.__name__)
def test_fields(cls: type[errors.APIError]) -> None:
    """Every field that is given is on the error; what is not given is `None`."""
    error = cls("Words.", **FIELDS)
    assert FIELDS == {name: getattr(error, name) for name in FIELDS}
    assert error.status_code == error.status == 499
    bare = cls("Words.")
    assert {None} == {getattr(bare, name) for name in FIELDS if name != "retryable"}


def test_retryable() -> None:
    """Connections, conflicts, limits and failures of the provider may pass; all else stays until told otherwise."""
    assert {cls.__name__ for cls in API_CLASSES if cls("").retryable} == {
        "APIConnectionError",
        "APITimeoutError",
        "ConflictError",
        "InternalServerError",
        "RateLimitError",
    }
    assert not errors.RateLimitError("", retryable=False).retryable
    assert errors.BadRequestError("", retryable=True).retryable


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_copies(cls: type[errors.AntiphonError], way: str) -> None:
    """An error that is pickled or copied keeps its class, its message and every attribute, those added later too."""
    error = cls("Words.", **(FIELDS if issubclass(cls, errors.APIError) else {"provider": "p", "model": "m"}))
    error.add_note("A note.")
    error.added_later = 5  # type: ignore[attr-defined]
    again = WAYS[way](error)
    assert type(again) is cls
    assert again is not error
    assert str(again) == "Words."
    assert again.__dict__ == error.__dict__
    assert again.__notes__ == ["A note."]


def test_copies_of_a_changed_message() -> None:
    """A message that was changed, as when a key is struck out of it, is changed in copies too."""
    error = errors.APIError("Words with a key.")
    error.message, error.args = "Words.", ("Words.",)
    assert str(pickle.loads(pickle.dumps(error))) == "Words."


def test_received() -> None:
    """What came before a stream broke is on the error, and crosses process borders with it."""
    error = errors.StreamError("Cut.")
    assert error.received is None
    error.received = Completion.of("so far")
    again = pickle.loads(pickle.dumps(error))
    assert again.received == Completion.of("so far")
    assert errors.StreamError("Another.").received is None
