"""The four laws of codecs as checks, and hypothesis strategies of what to try them with.

Strategies give what every format can say; the tests of a codec put together from them what theirs can. Lists, texts and
JSON values are small on purpose: what breaks a codec is odd shapes, not length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import msgspec
from hypothesis import strategies as st

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import End, Event, Finish, fold, unfold
from antiphon.chat.messages import Annotation, Audio, File, FinishReason, Image, ToolCall
from antiphon.chat.requests import ChatRequest, Tool
from antiphon.chat.usage import Usage
from antiphon.errors import StreamError
from antiphon.formats import json
from antiphon.formats.codec import Codec, Decoder
from antiphon.formats.framing.sse import SSEDecoder
from tests.wire.rewinding import Rewinder

SSE = "text/event-stream"
JSON = "application/json"


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Split *data* at *cuts*, in any order; places beyond its ends give empty pieces."""
    places = sorted(min(cut, len(data)) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def decoded(codec: Codec, request: ChatRequest, parts: Iterable[bytes], content_type: str = SSE) -> list[Event]:
    """Return the events of a body that comes in *parts*."""
    decoder = codec.decoder(request, content_type)
    return [*(event for part in parts for event in decoder.feed(part)), *decoder.close()]


def encoded(codec: Codec, request: ChatRequest, events: Iterable[Event]) -> bytes:
    """Return the body that tells of *events*."""
    encoder = codec.encoder(request)
    return b"".join(frame for event in events for frame in encoder.feed(event))


def frames(body: bytes) -> list[Any]:
    """Return the JSON values in a body of server-sent events, but for `[DONE]`."""
    decoder = SSEDecoder()
    return [
        json.decode(data) for _, data in [*decoder.feed(body), *decoder.close()] if data.strip() not in (b"[DONE]", b"")
    ]


def check_same(expected: object, actual: object) -> None:
    """Fail where two JSON values differ, be it in type alone, and say at which path."""
    differences = [*differing(expected, actual)]
    assert not differences, "\n".join(differences[:10])


def differing(expected: Any, actual: Any, path: str = "$") -> Iterable[str]:
    """Give a line for each place where two JSON values differ."""
    if json.same(expected, actual):
        return
    if json.is_object(expected) and json.is_object(actual):
        for key in {**expected, **actual}:
            if key not in actual:
                yield f"{path}.{key} was lost: {expected[key]!r:.100}"
            elif key not in expected:
                yield f"{path}.{key} came from nowhere: {actual[key]!r:.100}"
            else:
                yield from differing(expected[key], actual[key], f"{path}.{key}")
    elif json.is_array(expected) and json.is_array(actual) and len(expected) == len(actual):
        for place, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differing(one, other, f"{path}[{place}]")
    else:
        yield f"{path}: expected {expected!r:.200}, found {actual!r:.200}"


# The laws


def check_events(codec: Codec, request: ChatRequest, events: list[Event], cuts: Iterable[int] = ()) -> None:
    """Law 1: events that were written and read again, the bytes split anywhere, make the same answer."""
    body = encoded(codec, request, events)
    assert fold(events) == fold(decoded(codec, request, pieces(body, cuts)))


def check_answer(codec: Codec, request: ChatRequest, completion: Completion) -> None:
    """Law 1 for whole answers: one that was written and read again is the same answer."""
    assert completion == fold(decoded(codec, request, [codec.encode_response(completion)], JSON))


def check_every_split(codec: Codec, request: ChatRequest, body: bytes) -> None:
    """Law 1, for the bytes: a body gives the same events in one piece, in any two, and byte by byte."""
    whole = decoded(codec, request, [body])
    assert whole == decoded(codec, request, (body[place : place + 1] for place in range(len(body))))
    for cut in range(1, len(body)):
        assert whole == decoded(codec, request, (body[:cut], body[cut:])), f"split at {cut}"


def check_every_cut(codec: Codec, request: ChatRequest, body: bytes, content_type: str = SSE) -> None:
    """Law 1 for all bytes of a stream: split in two anywhere it gives the same events, cut short anywhere no finish.

    A stream is looked at frame by frame: from one byte that completes something to the next. Where the decoder is the
    same before a frame's last byte however the bytes before it were split, it gives the same from there on, and there
    is no need to see what. So the time this takes grows with the stream as long as its frames do not.
    """
    decoder = codec.decoder(request, content_type)
    whole = told(partial(decoder.feed, body))
    whole += () if isinstance(whole[-1], str) else told(decoder.close)
    complete = None if isinstance(whole[-1], str) else fold(whole).choices
    decoder = codec.decoder(request, content_type)
    rewind, begin = Rewinder(decoder), 0
    received: list[Any] = []
    check_end(decoder, received, complete)
    for end in range(1, len(body) + 1):
        rewind()
        made = told(partial(decoder.feed, body[begin:end]))
        if made:
            after = rewind.changes()
            check_splits(decoder, rewind, body[begin : end - 1])
            assert made == told(partial(decoder.feed, body[end - 1 : end]))
            assert after == rewind.changes()
            received += made
            if isinstance(made[-1], str):
                break
            rewind, begin = Rewinder(decoder), end
        check_end(decoder, received, complete)
    else:
        rewind()
        check_splits(decoder, rewind, body[begin:])
        received += told(decoder.close)
    assert whole == received


def told(step: Callable[[], Iterable[Event]]) -> list[Any]:
    """Return the events of *step*, and last, where it ends with an error, the words of that."""
    events: list[Any] = []
    try:
        events += step()
    except StreamError as error:
        events.append(str(error))
    return events


def check_splits(decoder: Decoder, rewind: Rewinder, data: bytes) -> None:
    """Fail if it makes a difference to *decoder* where *data*, which completes nothing, is split; leave it fed."""
    rewind()
    assert not [*decoder.feed(data)]
    same = rewind.changes()
    for cut in range(1, len(data)):
        rewind()
        assert not [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])], f"split at {cut} of {data!r:.200}"
        assert same == rewind.changes(), f"split at {cut} of {data!r:.200}"


def check_end(decoder: Decoder, received: list[Event], complete: tuple[Choice, ...] | None) -> None:
    """Fail if the end of the body after the events *received* makes an answer that is not the *complete* one."""
    last = told(decoder.close)
    if isinstance(last[-1], str):
        assert not any(isinstance(event, Finish | End) for event in last)
    else:
        assert complete == fold([*received, *last]).choices


def check_folding(completion: Completion) -> None:
    """Law 2: an answer taken apart and put together is the same answer."""
    events = [*unfold(completion)]
    assert isinstance(events[-1], End)
    assert completion == fold(events)


def check_request(codec: Codec, request: ChatRequest) -> None:
    """Law 3: a request that the format can express is the same after it was written and read, and loses nothing."""
    written = codec.encode_request(request)
    assert () == written.losses
    assert request == codec.decode_request(written.body, written.path)


def check_request_json(codec: Codec, source: Mapping[str, Any]) -> None:
    """Law 4 for requests: JSON that was read and written is the same JSON."""
    check_same(source, json.decode(codec.encode_request(codec.decode_request(json.encode(source))).body))


def check_answer_json(codec: Codec, request: ChatRequest, source: Mapping[str, Any]) -> None:
    """Law 4 for whole answers, by way of events; and law 2 beside it."""
    completion = fold(decoded(codec, request, [json.encode(source)], JSON))
    check_same(source, json.decode(codec.encode_response(completion)))
    check_folding(completion)


def check_stream_json(codec: Codec, request: ChatRequest, body: bytes) -> None:
    """Law 4 for streams: each frame that was read and written is the same JSON; and law 2 beside it."""
    events = decoded(codec, request, [body])
    check_same(frames(body), frames(encoded(codec, request, events)))
    check_folding(fold(events))


# The law without what was kept: it proves the codecs, since a value that is given back as it came proves nothing of
# how its fields are written.


def bare(value: Any) -> Any:
    """Return a value, or several, without what was kept of how they came, at any depth."""
    if isinstance(value, msgspec.Struct):
        unseen = ("form", "kept", "wire")
        fields = {key: bare(getattr(value, key)) for key in value.__struct_fields__ if key not in unseen}
        return type(value)(**fields)
    return type(value)(map(bare, value)) if isinstance(value, tuple | list) else value


def check_request_again(codec: Codec, source: Any, path: str = "", alike: Callable[[Any], Any] = bare) -> None:
    """A request that was read, written in the canonical way and read again is the same request, and loses nothing.

    *alike* gives what survives of a request, for formats that cannot say everything that they read.
    """
    request = bare(codec.decode_request(json.encode(source), path))
    written = codec.encode_request(request)
    assert () == written.losses
    again = codec.decode_request(written.body, written.path if path else "")
    assert alike(request) == alike(bare(again))


def check_answer_again(
    codec: Codec, request: ChatRequest, source: Mapping[str, Any], alike: Callable[[Any], Any] = bare
) -> None:
    """The same for a whole answer."""
    completion = bare(fold(decoded(codec, request, [json.encode(source)], JSON)))
    again = fold(decoded(codec, request, [codec.encode_response(completion)], JSON))
    assert alike(completion) == alike(bare(again))


def check_stream_again(
    codec: Codec, request: ChatRequest, body: bytes, alike: Callable[[Any], Any] = bare, content_type: str = SSE
) -> None:
    """The same for a stream; where it names no model, it is written with that of the request."""
    events = bare(decoded(codec, request, [body], content_type))
    again = decoded(codec, request, [encoded(codec, request, events)], content_type)
    told = fold(events)
    assert alike(msgspec.structs.replace(told, model=told.model or request.model)) == alike(bare(fold(again)))


def check_nothing_kept(value: Any) -> None:
    """Fail where something of how *value* came is kept, at any depth."""
    if isinstance(value, msgspec.Struct):
        for key in value.__struct_fields__:
            assert key not in ("form", "kept", "wire") or getattr(value, key) is None, key
            check_nothing_kept(getattr(value, key))
    elif isinstance(value, tuple | list):
        for item in cast(Iterable[Any], value):
            check_nothing_kept(item)


# Strategies

texts = st.text(max_size=12)
names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=8)
"""Names of tools, models, ids: short, so that they sometimes are the same."""

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 10**6)
scalars = st.none() | st.booleans() | numbers | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
json_objects = st.dictionaries(texts, json_values, max_size=3)
unknown_keys = names.map("x_{}".format)
"""Names of fields that no format has."""

unknown_values = json_values.filter(lambda value: value is not None)
unknown_fields = st.dictionaries(unknown_keys, unknown_values, max_size=2)
base64_texts = st.binary(max_size=9).map(lambda data: msgspec.json.encode(data).decode().strip('"'))
urls = names.map("https://example.org/{}?a,b=c".format)
cuts = st.lists(st.integers(0, 4000), max_size=12)
"""Where to split a body."""


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Give `None` as well."""
    return st.none() | strategy


def extras(format: str, *nested: str) -> st.SearchStrategy[dict[str, dict[str, Any]] | None]:
    """Give `extra` of *format*: unknown fields, also within the known objects *nested*."""
    fields: st.SearchStrategy[dict[str, Any]] = unknown_fields
    for key in nested:
        some = st.dictionaries(unknown_keys, unknown_values, min_size=1, max_size=2)
        inner = st.fixed_dictionaries({key: some})
        fields = st.builds(lambda outer, inner: {**outer, **inner}, fields, st.just({}) | inner)
    return fields.map(lambda fields: {format: fields} if fields else None)


def finish_reasons(*excluded: str) -> st.SearchStrategy[FinishReason]:
    """Give canonical finish reasons but for the *excluded* ones."""
    reasons: tuple[FinishReason, ...] = ("stop", "length", "tool_calls", "content_filter", "pause", "error", "other")
    return st.sampled_from([reason for reason in reasons if reason not in excluded])


def usages(format: str) -> st.SearchStrategy[Usage]:
    """Give usages whose totals are known."""
    return st.builds(
        Usage,
        input_uncached=counts,
        input_cache_read=maybe(counts),
        input_cache_write=maybe(counts),
        output_visible=counts,
        output_reasoning=maybe(counts),
        input_audio=maybe(counts),
        output_audio=maybe(counts),
        cost=maybe(st.floats(0, 100)),
        extra=extras(format),
    )


def citations(format: str) -> st.SearchStrategy[tuple[Annotation, ...]]:
    """Give sources of a text."""
    one = st.builds(
        Annotation,
        kind=st.just("url_citation"),
        url=maybe(urls),
        title=maybe(texts),
        start=maybe(counts),
        end=maybe(counts),
        extra=extras(format, "url_citation"),
    )
    return st.lists(one, max_size=2).map(tuple)


def images(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Image]:
    """Give pictures, inline or elsewhere."""
    kinds = st.sampled_from(["image/png", "image/jpeg", None])
    detail = maybe(st.sampled_from(["low", "high", "auto"]))
    return st.builds(Image, url=urls, detail=detail, extra=extra) | st.builds(
        Image, data=base64_texts, media_type=kinds, detail=detail, extra=extra
    )


def sounds(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Audio]:
    """Give inline sounds."""
    kinds = st.sampled_from(["audio/wav", "audio/mpeg", "audio/flac"])
    return st.builds(Audio, data=base64_texts, media_type=kinds, extra=extra)


def files(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[File]:
    """Give documents: inline, elsewhere, or uploaded."""
    kinds = st.sampled_from(["application/pdf", "text/plain", None])
    return (
        st.builds(File, data=base64_texts, media_type=kinds, name=maybe(names), extra=extra)
        | st.builds(File, file_id=names, name=maybe(names), extra=extra)
        | st.builds(File, url=urls, extra=extra)
    )


def tool_calls(extra: st.SearchStrategy[Any], *, kinds: Iterable[str] = ("function",)) -> st.SearchStrategy[ToolCall]:
    """Give tool calls."""
    return st.builds(ToolCall, names, names, texts, st.sampled_from([*kinds]), extra=extra)


def tools(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Tool]:
    """Give descriptions of tools."""
    return st.builds(Tool, names, maybe(texts), maybe(json_objects), maybe(st.booleans()), extra=extra)


@st.composite
def interleaved(draw: st.DrawFn, *sequences: list[Any]) -> list[Any]:
    """Give all items of *sequences*, each in its own order, among each other in any."""
    left = [list(sequence) for sequence in sequences if sequence]
    result: list[Any] = []
    while left:
        chosen = draw(st.sampled_from(left))
        result.append(chosen.pop(0))
        left = [sequence for sequence in left if sequence]
    return result


@st.composite
def streams(
    draw: st.DrawFn,
    choice: Callable[[int], st.SearchStrategy[list[Event]]],
    before: st.SearchStrategy[list[Event]],
    beside: st.SearchStrategy[list[Event]],
    *,
    most: int = 3,
) -> list[Event]:
    """Give the events of an answer: those *before*, the choices interleaved with those *beside*, and `End`.

    Some choices have no `Finish` of their own; `End` then has the reason.
    """
    indexes = range(draw(st.integers(1, most)))
    reasons = finish_reasons("error")
    ends = [draw(maybe(st.builds(Finish, reasons, st.just(index)))) for index in indexes]
    choices = [[*draw(choice(index)), *([end] if end else [])] for index, end in zip(indexes, ends, strict=True)]
    for index, events in enumerate(choices):
        if not events:
            events.append(Finish(draw(reasons), index))
    middle = draw(interleaved(*choices, draw(beside)))
    return [*draw(before), *middle, End(draw(reasons) if None in ends else None)]
