"""Error replies: the right class, the provider's words, whether and when to try again."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import errors
from antiphon.formats import status
from tests.wire import laws


@pytest.mark.parametrize(
    ("code", "expected", "retryable"),
    [
        (400, errors.BadRequestError, False),
        (401, errors.AuthenticationError, False),
        (402, errors.APIStatusError, False),
        (403, errors.PermissionDeniedError, False),
        (404, errors.NotFoundError, False),
        (405, errors.APIStatusError, False),
        (408, errors.APIStatusError, True),
        (409, errors.ConflictError, True),
        (413, errors.APIStatusError, False),
        (418, errors.APIStatusError, False),
        (422, errors.UnprocessableEntityError, False),
        (425, errors.APIStatusError, True),
        (429, errors.RateLimitError, True),
        (499, errors.APIStatusError, False),
        (500, errors.InternalServerError, True),
        (502, errors.InternalServerError, True),
        (503, errors.InternalServerError, True),
        (504, errors.InternalServerError, True),
        (529, errors.InternalServerError, True),
        (599, errors.InternalServerError, True),
    ],
)
def test_class(code: int, expected: type[errors.APIStatusError], retryable: bool) -> None:
    """Each status has its class, and says whether the same request may succeed later."""
    error = status.status_error(code, {}, "Words.")
    assert type(error) is expected
    assert (error.status, error.status_code, error.retryable) == (code, code, retryable)
    assert str(error) == f"Words. (HTTP {code})"


@pytest.mark.parametrize("field", ["code", "type"])
@pytest.mark.parametrize("quota", sorted(status.QUOTA_CODES))
def test_quota(field: str, quota: str) -> None:
    """A 429 that waiting does not cure is not retryable, wherever the provider says so."""
    fields: dict[str, Any] = {field: quota}
    assert not status.status_error(429, {}, "Pay.", **fields).retryable
    assert status.status_error(429, {}, "Wait.", code="rate_limit_exceeded").retryable


@pytest.mark.parametrize(
    ("code", "header", "retryable"),
    [(400, "true", True), (500, "false", False), (429, "false", False), (429, "maybe", True), (404, "maybe", False)],
)
def test_should_retry(code: int, header: str, retryable: bool) -> None:
    """`x-should-retry` is the provider's last word; anything but true and false is none."""
    assert retryable == status.status_error(code, {"x-should-retry": header}, "").retryable


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "", "retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "86401"}, 86400.0),
        ({"retry-after-ms": "1e12"}, 86400.0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 86400.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}, None),
        ({"retry-after": "1, 2"}, None),
        ({"retry-after": "Mon, 1 Jan 99999999999999999999 00:00:00 GMT"}, None),
        ({"retry-after": "Mon, 1 Jan 2027 00:00:99999999999999999999 GMT"}, None),
        ({"retry-after": "Mon, 1 Jan 2027 00:00:00 +99999999999999999999"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "1e308"}, status.MAX_RETRY_AFTER),
        ({"retry-after-ms": "1e308"}, status.MAX_RETRY_AFTER),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    """A hint is read as milliseconds, seconds or a date, and no longer than a day; a malformed one is none."""
    assert expected == status.retry_after(headers)
    assert expected == status.status_error(429, headers, "").retry_after


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0000"])
def test_retry_after_a_date(zone: str) -> None:
    """A date to come is turned into the seconds until then, in whichever way UTC is written."""
    date = formatdate(time.time() + 3600).removesuffix("-0000") + zone
    seconds = status.retry_after({"retry-after": date})
    assert seconds is not None
    assert 3000 < seconds <= 3600


@given(st.text() | st.from_regex(r"\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ [-+A-Z0-9]+", fullmatch=True))
def test_retry_after_garbage(value: str) -> None:
    """No header value makes more of a fault than it is."""
    for name in ("retry-after", "retry-after-ms"):
        seconds = status.retry_after({name: value})
        assert seconds is None or 0 <= seconds <= status.MAX_RETRY_AFTER


@pytest.mark.parametrize("name", ["x-request-id", "request-id", "x-amzn-requestid", "x-generation-id", "cf-ray"])
def test_request_id(name: str) -> None:
    """The provider's id of the request is found under the names that providers have for it."""
    assert status.status_error(500, {name: "r-1"}, "").request_id == "r-1"
    assert status.status_error(500, {"x-request-id": "first", name: "r-1"}, "").request_id in ("first", "r-1")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Words.", "Words. (HTTP 429)"),
        ("  Words. \n", "Words. (HTTP 429)"),
        ("Words. (HTTP 429)", "Words. (HTTP 429)"),
        ("Words. (HTTP 500)", "Words. (HTTP 500) (HTTP 429)"),
        ("", "The provider answered HTTP 429."),
        (" \n ", "The provider answered HTTP 429."),
        ("x" * 5000, "x" * 2000 + "… (HTTP 429)"),
    ],
    ids=lambda text: text[:20],
)
def test_message(message: str, expected: str) -> None:
    """A message is the provider's words with the status, said once however many gateways it passed; or a sentence."""
    assert expected == str(status.status_error(429, {}, message))


def test_fields() -> None:
    """Everything that is known of the fault is on the error."""
    error = status.status_error(400, {}, "No.", code="c", type="t", param="p", body={"error": 1})
    assert (error.code, error.type, error.param, error.body) == ("c", "t", "p", {"error": 1})
    assert (error.provider, error.model, error.request_id, error.retry_after) == (None, None, None, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Words.", "Words."),
        ({"error": {"message": "Words."}}, "Words."),
        ({"error": "Words."}, "Words."),
        ({"message": "Words."}, "Words."),
        ({"detail": "Words."}, "Words."),
        ({"detail": [{"loc": ["body", "n", 0], "msg": "Too many.", "type": "v"}]}, "body.n.0: Too many."),
        ({"detail": [{"msg": "One."}, {"msg": "Two."}, {}]}, "One.; Two."),
        ({"message": {"detail": [{"loc": ["body"], "msg": "Extra."}]}, "object": "error"}, "body: Extra."),
        ([{"error": {"message": "Words."}}], "Words."),
        ({"error": {"message": ""}, "detail": "Words."}, "Words."),
        ({"error": None, "message": None}, ""),
        ({"error": {}}, ""),
        ({"status": 500}, ""),
        (None, ""),
        (5, ""),
        (True, ""),
        ([], ""),
        ([str(number) for number in range(9)], "0; 1; 2; 3; 4"),
    ],
    ids=repr,
)
def test_words(body: object, expected: str) -> None:
    """The provider's own words are found wherever providers put them."""
    assert expected == status.words(body)


@given(laws.json_values)
def test_words_of_anything(body: object) -> None:
    """Looking for words in any JSON gives a string."""
    assert isinstance(status.words(body), str)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"  two\n\n lines ", "two lines"),
        ("text", "text"),
        (b"x" * 1000, "x" * 200 + "…"),
        (b"x" * 200, "x" * 200),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"<html><head><TITLE>502 Bad\nGateway</TITLE></head><body>nginx</body></html>", "502 Bad Gateway"),
        (b"<html><body>no title</body></html>", "<html><body>no title</body></html>"),
        (b"plain <title>text</title>", "plain <title>text</title>"),
        ("<title>" * 1_000_000, "<title>" * 28 + "<tit…"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_excerpt(body: bytes | str, expected: str) -> None:
    """An excerpt is the start of a body on one line, no more than 200 characters; of a web page, its title."""
    assert expected == status.excerpt(body)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.RateLimitError("", status=429), 429),
        (errors.InternalServerError("", status=529), 529),
        (errors.APITimeoutError(""), 504),
        (errors.APIConnectionError(""), 502),
        (errors.StreamError(""), 502),
        (errors.StreamError("", status=200), 502),
        (errors.APIError("", status=400), 400),
        (errors.APIStatusError("", status=599), 599),
        *((errors.APIStatusError("", status=odd), 502) for odd in (-1, 0, 100, 204, 302, 399, 600, 999, 10**9)),
    ],
    ids=repr,
)
def test_http_status(error: errors.APIError, expected: int) -> None:
    """A server passes on the provider's error status, and has 504 and 502 for faults without one that HTTP has."""
    assert expected == status.http_status(error)


@pytest.mark.parametrize("wait", [float("inf"), float("-inf"), float("nan"), -5.0, 1e300, 10**400], ids=repr)
def test_any_wait_of_an_error_can_be_written(wait: float) -> None:
    """A program's own error may ask to wait any time: what no client could wait is left out or cut."""
    reply = status.error_reply(errors.RateLimitError("", status=429, retry_after=wait), {})
    told = reply.headers.get("retry-after")
    assert told is None or 0 <= int(told) <= status.MAX_RETRY_AFTER
