"""OpenAI Responses streams, written. A state machine, no I/O.

* Events that came from this format are written as the frames they were; see `stream.py`. Where somebody ended
  the answer before its own last frame, that frame is made of what was told.
* Of others, items are made: a message for each text, a reasoning, a call. A text ends where the next part begins;
  calls, pieces of which may alternate, all end at the end.
* Responses know one choice only: events of others than the first are left out.

Source, read 2026-11-23: openai 3.54, `types/responses/*_event.py` and `_streaming.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from antiphon.chat.answers import Choice, Completion
from antiphon.chat.events import (
    AudioDelta,
    End,
    Event,
    Finish,
    Folder,
    PartAdded,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UnknownEvent,
    UsageUpdate,
    unfold,
)
from antiphon.chat.messages import Message, Opaque, Patch, Reasoning, Refusal, Text, ToolCall
from antiphon.chat.usage import Usage
from antiphon.errors import APIError
from antiphon.formats import json, patch
from antiphon.formats.framing import sse
from antiphon.formats.responses.answer import encode_completion, error_fields, response_object
from antiphon.formats.responses.message import CALL_TYPES, NAME, Writer, made_id

__all__ = ["StreamEncoder"]

_Frame: TypeAlias = dict[str, Any]
_Growing: TypeAlias = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta

_TERMINAL = ("response.completed", "response.incomplete", "response.failed", "error")
_NAMES: dict[type, str] = {
    TextDelta: "output_text",
    RefusalDelta: "refusal",
    ReasoningDelta: "reasoning_summary_text",
}
"""What a delta's type is called after."""
_WHOLE = (Text, Refusal, Reasoning, ToolCall)
"""Parts that are told in pieces, also where they came whole."""


class _Output:
    """An item that has begun."""

    __slots__ = ("folder", "index", "item", "said", "where")

    def __init__(self, index: int, item: _Frame) -> None:
        self.index = index
        self.item = item
        self.where: _Frame = {"item_id": item["id"], "output_index": index}
        """What the frames of its parts say of where they belong."""
        self.said = False
        """Whether a part of it has begun."""
        self.folder = Folder()


class StreamEncoder:
    """Turns events into the bytes of a streamed answer.

    Args:
        model: The name of the model, where no event tells it.
    """

    def __init__(self, *, model: str) -> None:
        self._folder = Folder()
        """All that was told, where some of it came from this format."""
        self._start = Start(model=model)
        self._number = 0
        self._own = False
        self._begun = False
        self._outputs: dict[Any, _Output] = {}
        """Items that are open, by key."""
        self._newest: Any = None
        """Key of the item that a piece without a number may continue."""
        self._items: list[_Frame] = []
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._closed = False

    def feed(self, event: Event) -> Iterator[bytes]:
        """Give the frames for *event*."""
        if self._closed:
            return
        wire = event.wire
        if wire is not None and wire.format == NAME:
            self._own = True
            if not wire.more:
                yield self._own_frame(event, wire.patch)
        else:
            for frame in self._frames(event):
                yield self._encoded(frame)
        if self._own and not self._closed:
            self._folder.add(event)

    def error(self, error: APIError) -> bytes:
        """Give the frame that tells of a fault after the status line has been sent."""
        return self._encoded(self._failure(error))

    def _failure(self, error: APIError) -> _Frame:
        # The event has its fields beside its type; the official client raises where there is an `error` in it.
        self._closed = True
        fields = error_fields(error)
        return {"type": "error", **{key: fields[key] for key in ("code", "message", "param")}, "error": fields}

    def _own_frame(self, event: Any, rest: Patch | None) -> bytes:
        """Write a frame that came from this format."""
        if isinstance(event, UnknownEvent):
            frame, kind = event.data, event.name or ""
            self._closed = kind in _TERMINAL
        else:
            text = event.arguments if type(event) is ToolCallDelta else event.text
            frame = patch.apply({"delta": text}, rest)
            kind = json.text(frame.get("type")) or ""
        number = json.integer(frame.get("sequence_number")) if json.is_object(frame) else None
        self._number = self._number if number is None else number + 1
        return sse.encode(json.encode(frame), event=kind if kind.isprintable() and kind else None)

    def _encoded(self, frame: _Frame) -> bytes:
        frame["sequence_number"] = self._number
        self._number += 1
        return sse.encode(json.encode(frame), event=frame["type"])

    # What came from elsewhere

    def _frames(self, event: Event) -> Iterator[_Frame]:
        if isinstance(event, Start):
            self._meet(event)
        elif isinstance(event, UsageUpdate):
            self._account(event.usage)
        elif isinstance(event, End):
            if event.usage is not None:
                self._account(event.usage)
            yield from self._end(event)
        elif not isinstance(event, UnknownEvent) and event.choice == 0:
            yield from self._choice(event)

    def _meet(self, event: Start) -> None:
        known = self._start
        self._start = Start(
            id=event.id or known.id,
            model=event.model or known.model,
            created=event.created or known.created,
            extra=event.extra or known.extra,
        )

    def _account(self, usage: Usage) -> None:
        self._usage = usage if self._usage is None else self._usage.updated(usage)

    def _choice(self, event: Any) -> Iterator[_Frame]:
        if isinstance(event, Finish):
            self._finish = event
            if event.reason == "error" and event.native != "cancelled":
                told = event.native or "no reason given"
                yield self._failure(APIError(f"The provider ended its answer with an error: {told}"))
        elif isinstance(event, PartAdded):
            yield from self._add(event)
        elif isinstance(event, AudioDelta):
            if event.transcript:
                yield from self._grow(TextDelta(event.transcript, 0, event.part))
        elif isinstance(event, TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta):
            yield from self._grow(event)

    def _response(self, choice: Choice | None) -> _Frame:
        start = self._start
        told = Completion(
            choices=(), id=start.id, model=start.model, created=start.created, usage=self._usage, extra=start.extra
        )
        return {**response_object(told, choice), "output": list(self._items)}

    def _begin(self) -> Iterator[_Frame]:
        if not self._begun and not self._own:
            self._begun = True
            yield {"type": "response.created", "response": self._response(None)}
            yield {"type": "response.in_progress", "response": self._response(None)}

    def _add(self, event: PartAdded) -> Iterator[_Frame]:
        part = event.content
        self._newest = None
        if isinstance(part, _WHOLE):
            told = Completion(choices=(Choice(0, Message("assistant", (part,))),))
            for piece in unfold(told):
                if isinstance(piece, TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta):
                    again: Any = {"call": -1 - len(self._items)} if isinstance(piece, ToolCallDelta) else {}
                    yield from self._grow(msgspec.structs.replace(piece, part=event.part, **again))
        elif isinstance(part, Opaque) and part.format == NAME:
            yield from self._begin()
            yield from self._close_texts()
            index = len(self._items)
            self._items.append(part.data)
            yield {"type": "response.output_item.added", "output_index": index, "item": part.data}
            yield {"type": "response.output_item.done", "output_index": index, "item": part.data}

    def _grow(self, event: _Growing) -> Iterator[_Frame]:
        kind = type(event)
        key: Any = ("call", event.call) if isinstance(event, ToolCallDelta) else (kind, event.part)
        output = self._outputs.get(key)
        if output is None or (key[1] is None and key != self._newest):
            if key[1] is None and not _brings(event):
                return  # nothing has been said yet
            yield from self._begin()
            yield from self._close_texts()
            output = self._outputs[key] = self._new(event)
            yield {"type": "response.output_item.added", "output_index": output.index, "item": output.item}
        self._newest = key
        output.folder.add(event)
        yield from _delta(output, event)

    def _new(self, event: _Growing) -> _Output:
        index = len(self._items)
        own: _Frame
        if isinstance(event, ToolCallDelta):
            kind, field = CALL_TYPES.get(event.kind or "function", CALL_TYPES["function"])
            own = {"call_id": event.id or "", "name": event.name or "", field: ""}
        elif isinstance(event, ReasoningDelta):
            kind, own = "reasoning", {"summary": list[Any]()}
        else:
            kind, own = "message", {"role": "assistant", "content": list[Any]()}
        item = {"id": made_id(kind, self._start.id, index), "type": kind, "status": "in_progress", **own}
        self._items.append(item)
        return _Output(index, item)

    def _close_texts(self) -> Iterator[_Frame]:
        for key in [key for key in self._outputs if key[0] != "call"]:
            yield from self._close(self._outputs.pop(key))

    def _close(self, output: _Output) -> Iterator[_Frame]:
        message = output.folder.completion().choices[0].message
        item = Writer(answer=self._start.id, first=output.index).message(message, "$")[0]
        self._items[output.index] = item
        yield from _done(output, item)
        yield {"type": "response.output_item.done", "output_index": output.index, "item": item}

    def _end(self, event: End) -> Iterator[_Frame]:
        finish = self._finish or Finish(event.finish_reason or "stop")
        choice = Choice(0, Message("assistant"), finish.reason, finish.native)
        if self._own:
            self._folder.add(event)
            told = self._folder.completion()
            last = msgspec.structs.replace(choice, message=told.choices[0].message if told.choices else choice.message)
            response = encode_completion(msgspec.structs.replace(told, choices=(last,), form=None))
        else:
            yield from self._begin()
            for output in self._outputs.values():
                yield from self._close(output)
            response = self._response(choice)
        self._closed = True
        name = "response.completed" if response["status"] == "completed" else "response.incomplete"
        yield {"type": name, "response": response}


def _brings(event: Any) -> bool:
    """Whether *event* brings anything of its part."""
    if isinstance(event, ToolCallDelta):
        return True
    if isinstance(event, ReasoningDelta):
        return bool(event.text) or event.signature is not None
    return bool(event.text) or (isinstance(event, TextDelta) and bool(event.annotations or event.logprobs))


def _delta(output: _Output, event: _Growing) -> Iterator[_Frame]:
    """Write the frames for a piece of an item, the first of which begins a part."""
    if isinstance(event, ToolCallDelta):
        if event.arguments:
            name = "custom_tool_call_input" if "input" in output.item else "function_call_arguments"
            yield {"type": f"response.{name}.delta", **output.where, "delta": event.arguments}
        return
    thoughts = isinstance(event, ReasoningDelta)
    if thoughts and not event.text:
        return
    name = _NAMES[type(event)]
    if not output.said:
        output.said = True
        output.where["summary_index" if thoughts else "content_index"] = 0
        yield {"type": _part_name(event, "added"), **output.where, "part": _blank(name)}
    frame = {"type": f"response.{name}.delta", **output.where, "delta": event.text}
    if isinstance(event, TextDelta):
        frame["logprobs"] = list(event.logprobs or ())
    yield frame


def _part_name(event: Any, what: str) -> str:
    return f"response.{'reasoning_summary' if isinstance(event, ReasoningDelta) else 'content'}_part.{what}"


def _blank(name: str) -> _Frame:
    if name == "reasoning_summary_text":
        return {"type": "summary_text", "text": ""}
    if name == "refusal":
        return {"type": "refusal", "refusal": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _done(output: _Output, item: _Frame) -> Iterator[_Frame]:
    """Write the frames that end the parts of an item."""
    kind = item["type"]
    if kind == "function_call":
        yield {
            "type": "response.function_call_arguments.done",
            **output.where,
            "name": item["name"],
            "arguments": item["arguments"],
        }
    elif kind == "custom_tool_call":
        yield {"type": "response.custom_tool_call_input.done", **output.where, "input": item["input"]}
    elif output.said and kind == "reasoning":
        part = item["summary"][0]
        yield {"type": "response.reasoning_summary_text.done", **output.where, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **output.where, "part": part}
    elif output.said:
        part = item["content"][0]
        if part["type"] == "refusal":
            yield {"type": "response.refusal.done", **output.where, "refusal": part["refusal"]}
        else:
            logprobs = part.get("logprobs", [])
            yield {"type": "response.output_text.done", **output.where, "text": part["text"], "logprobs": logprobs}
        yield {"type": "response.content_part.done", **output.where, "part": part}
