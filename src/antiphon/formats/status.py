"""Error replies: the right class, whether and when to try again. No I/O besides reading the clock for a date.

Sources: the retry headers that the openai 3.54 and anthropic 2.12 clients obey (`retry-after-ms`, `retry-after`,
`x-should-retry`), and the codes that the latter knows of a 429 (`types/shared`), read 2026-11-22.
"""

from __future__ import annotations

import math
import re
import time
from datetime import UTC

from antiphon.chat.answers import REQUEST_IDS
from antiphon.errors import KINDS, APIError, APIStatusError, APITimeoutError, BadRequestError, error_class
from antiphon.formats import json
from antiphon.formats.codec import Headers, HTTPReply
from antiphon.formats.json import is_array, is_object

__all__ = [
    "MAX_RETRY_AFTER",
    "QUOTA_CODES",
    "RETRYABLE",
    "error_reply",
    "excerpt",
    "http_status",
    "retry_after",
    "status_error",
    "wait_seconds",
    "words",
]

QUOTA_CODES = frozenset(name for name, kind in KINDS.items() if kind == "billing")
"""Codes of a 429 that waiting does not cure."""

MAX_RETRY_AFTER = 86400.0
"""Most seconds that an error tells to wait: what asks for more than a day is told as a day."""

RETRYABLE = frozenset({408, 409, 425, 429})
"""Client-error statuses after which the same request may succeed later; server errors, 500 and above, all are so."""

_MAX_EXCERPT = 200
_MAX_MESSAGE = 2000
_MAX_FAULTS = 5
_MAX_DEPTH = 6  # of 4 keys or 5 faults each: a few thousand places at most
_TITLE = re.compile(r"<title[^>]*>(.+?)</title", re.IGNORECASE | re.DOTALL)


def status_error(
    status: int,
    headers: Headers,
    message: str,
    *,
    code: str | None = None,
    type: str | None = None,
    param: str | None = None,
    body: object = None,
) -> APIStatusError:
    """Return the error for a reply with an error *status*; *message* is the provider's own."""
    should = headers.get("x-should-retry")
    retryable = (status in RETRYABLE or status >= 500) and code not in QUOTA_CODES and type not in QUOTA_CODES
    suffix = f" (HTTP {status})"  # which is there already where a gateway passes on another's message
    message = _cut(message.strip(), _MAX_MESSAGE).removesuffix(suffix)
    return error_class(status)(
        message + suffix if message else f"The provider answered HTTP {status}.",
        status=status,
        code=code,
        type=type,
        param=param,
        body=body,
        request_id=next((headers[name] for name in REQUEST_IDS if name in headers), None),
        retryable=retryable if should not in ("true", "false") else should == "true",
        retry_after=retry_after(headers),
    )


def retry_after(headers: Headers) -> float | None:
    """Return the seconds that a reply asks to wait, or `None`: milliseconds, seconds or an HTTP date.

    A hint beyond `MAX_RETRY_AFTER`, such as a date many years ahead, is cut to that.
    """
    milliseconds = wait_seconds(headers.get("retry-after-ms"), unit=0.001)
    value = headers.get("retry-after", "")
    seconds = wait_seconds(value) if milliseconds is None else milliseconds
    return wait_seconds(_seconds_until(value)) if seconds is None else seconds


def wait_seconds(value: str | float | None, *, unit: float = 1.0) -> float | None:
    """Return a hint how long to wait, in units of *unit* seconds, as 0 to `MAX_RETRY_AFTER` seconds.

    A malformed hint is none, and so is one that is not finite.
    """
    try:
        number = math.nan if value is None else float(value)
    except (ValueError, OverflowError):  # the latter of an integer that no float holds
        return None
    return min(max(0.0, number * unit), MAX_RETRY_AFTER) if math.isfinite(number) else None


def _seconds_until(date: str) -> float | None:
    from email.utils import parsedate_to_datetime  # 5 ms that only a date in place of seconds is worth

    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, OverflowError):  # the latter of a year, an hour or a zone beyond what an integer of C holds
        return None
    if moment.tzinfo is None:  # "-0000": UTC, from a place that does not tell its own
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - time.time())


def words(body: object, depth: int = 0) -> str:
    """Return the provider's own words in a decoded error body, wherever they stand; `""` where there are none.

    Known places: `error`, `message`, `detail` and `msg`, one inside the other, with a list of faults at any of them;
    what is below `_MAX_DEPTH` of those is not looked at.
    """
    if isinstance(body, str):
        return body
    if depth > _MAX_DEPTH:
        return ""
    if is_array(body):
        return "; ".join(filter(None, (words(item, depth + 1) for item in body[:_MAX_FAULTS])))
    if not is_object(body):
        return ""
    below = (words(body.get(key), depth + 1) for key in ("error", "message", "detail", "msg"))
    said = next(filter(None, below), "")
    place = body.get("loc")  # FastAPI's, beside `msg`
    return f"{'.'.join(map(str, place))}: {said}" if said and is_array(place) else said


def excerpt(body: bytes | str) -> str:
    """Return the start of *body*, on one line, for an error message; of a web page, its title."""
    start = body[: 4 * _MAX_EXCERPT]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    title = _TITLE.search(text) if text.lstrip().startswith("<") else None
    return _cut(" ".join((title[1] if title else text).split()), _MAX_EXCERPT)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def http_status(error: APIError) -> int:
    """Return the status with which a server tells a client of *error*: 400 to 599, whatever the provider's was."""
    if error.status is not None and 400 <= error.status <= 599:
        return error.status
    if isinstance(error, BadRequestError):
        return 400  # one of ours: a client that was told 502 would try again
    return 504 if isinstance(error, APITimeoutError) else 502


def error_reply(error: APIError, body: object, *, id_header: str | None = None, **headers: str) -> HTTPReply:
    """Return the reply that tells a client of *error* with *body*, as JSON; *id_header* is where its id goes."""
    fields = {"content-type": "application/json", **headers}
    if id_header is not None and error.request_id is not None:
        fields[id_header] = error.request_id
    if (wait := wait_seconds(error.retry_after)) is not None:  # one that a program made may be anything
        fields["retry-after"] = str(math.ceil(wait))
    return HTTPReply(status=http_status(error), body=json.encode(body), headers=fields)
