"""The handler that meets an upstream over HTTP: a codec, a transport and a key. No other code does."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote

import anyio
import msgspec

from antiphon.chat.answers import REQUEST_IDS
from antiphon.chat.embeddings import EmbeddingRequest, Embeddings
from antiphon.chat.events import Event, Finish, MessageDelta, Start, UnknownEvent, UsageUpdate
from antiphon.chat.losses import Loss
from antiphon.chat.requests import ChatRequest
from antiphon.errors import (
    AntiphonError,
    APIConnectionError,
    APIError,
    BadRequestError,
    ResponseTooLargeError,
    StreamError,
    refuses_key,
)
from antiphon.formats.body import MAX_BODY
from antiphon.formats.codec import Codec, Decoder, Headers, HTTPRequest, TokenCounter
from antiphon.formats.embeddings import EmbeddingCodec
from antiphon.formats.kit_stream import completed
from antiphon.http.transport import Response, Timeout, Transport
from antiphon.providers.auth import Auth, AWSSignature, HiddenHeaders, Secret, redact
from antiphon.providers.base import Call
from antiphon.providers.foreign_state import original_path, without_foreign_state
from antiphon.providers.redaction import body_without_keys, keys_in, without_frames, without_keys
from antiphon.sync.blocking import computed, run_in_thread

__all__ = ["HTTPProvider"]


_MAX_ERROR_BODY = 1024 * 1024


_MAX_FIELD = 1024
"""Most characters of a header field of a reply that callers get to see."""


_AT_ONCE = 8
"""Most requests of one call that are under way at once."""


_DOTS = re.compile(r"[/\\]\.\.?(?:;[^/\\]*)?(?=[/\\]|\Z)")


_UNQUOTINGS = 3
"""How often servers and the proxies before them may unquote a path, one after the other."""


_MAX_LISTED = 20
"""Most losses in the message of an error."""


_SILENT = (Start, MessageDelta, UsageUpdate, UnknownEvent, Finish)


class HTTPProvider:
    """A provider behind HTTP.

    Args:
        name: The provider's name, told with every answer and every error.
        codec: The wire format it speaks.
        base_url: Where it is, with the path that the codec's own path follows; no slash at the end.
        auth: How requests are signed.
        transport: What carries them.
        secrets: Keys to strike out of whatever the provider says.
        ask_usage: Whether to ask for the usage of streams where the request does not say.
        list_url: Where it lists its models, if not at *base_url*.
        query: What every URL ends in, such as `api-version=…`.
        embeddings: How it is asked for embeddings, if it has any.
        think_tags: Whether it is known to send thoughts inside the text, between `<think>` and `</think>`.
    """

    is_handler: Final = True

    def __init__(
        self,
        name: str,
        codec: Codec,
        base_url: str,
        *,
        auth: Auth,
        transport: Transport,
        secrets: tuple[Secret, ...] = (),
        ask_usage: bool = True,
        think_tags: bool = False,
        embeddings: EmbeddingCodec | None = None,
        list_url: str | None = None,
        query: str = "",
    ) -> None:
        self.name = name
        self.codec = codec
        self.base_url = base_url.rstrip("/")
        self.think_tags = think_tags
        self._embeddings = embeddings
        self._list_url = list_url or self.base_url
        self._query = query
        self._auth = auth
        self._transport = transport
        self._secrets = secrets
        self._ask_usage = ask_usage

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.base_url!r})"

    async def __call__(self, request: ChatRequest, call: Call) -> AsyncGenerator[Event, None]:
        """Give the events of the upstream's answer to *request*."""
        waiting, carried = True, False  # *carried*: the transport is at work, so a fault is the connection's
        try:
            http = await computed(partial(self._encode, request, call), call.size)
            url = self._url(self.base_url, http)
            headers = HiddenHeaders(http.headers) | await self._sign(http, url) | call.headers
            carried = True
            async with self._transport.open(url, http, headers=headers, timeout=call.timeout) as reply:
                if not 200 <= reply.status < 300:
                    refusal, carried = await self._refusal(reply), False
                    raise refusal
                call.response_headers = _short(
                    {name: redact(value, *self._secrets) for name, value in reply.headers.items() if _tells(name)}
                )
                decoder = self.codec.decoder(request, reply.content_type)
                keep = _keeper(reply, call)
                progress = _Progress(request, reply)
                async for data in reply:
                    carried = False
                    keep(data)
                    call.answer_size += len(data)
                    said = False
                    for event in decoder.feed(data):
                        if waiting:
                            event, waiting = self._first(event, reply, request.model)
                        yield event
                        said = said or type(event) not in _SILENT
                    _go_on(reply, said=said or progress.counts(data))
                    if decoder.over:
                        break
                    carried = True
                carried = False
                for event in await computed(partial(_closed, decoder), call.answer_size):
                    if waiting:
                        event, waiting = self._first(event, reply, request.model)
                    yield event
                if decoder.over:
                    await reply.settle()
        except AntiphonError as error:
            data = b""
            self._tell(error, request.model, call, said=not waiting, carried=carried)
            raise

    @property
    def list_identity(self) -> Hashable:
        """What is equal for two endpoints that would ask the same place for the same list, with the same key."""
        return (self.name, self.codec.name, self._list_url, self._query, self._secrets)

    async def models(self, clocks: Timeout) -> list[tuple[str, int]]:
        """Ask the upstream which models it has: pairs of name and the Unix time it was made, 0 where not told.

        Raises:
            APIError: It did not answer, or not with a list of models.
        """
        try:
            return self.codec.decode_models(
                await self._ask(self.codec.models_request(), Call(timeout=clocks), self._list_url)
            )
        except AntiphonError as error:
            self._tell(error, None)
            raise

    async def count_tokens(self, request: ChatRequest, call: Call) -> int:
        """Ask the upstream how many input tokens *request* has.

        Raises:
            APIError: It did not answer, or has no way to tell.
        """
        if not isinstance(self.codec, TokenCounter):
            raise BadRequestError(f"The provider {self.name!r} has no way to ask how many tokens a request has.")
        try:
            http = await computed(partial(self._written, request, call, self.codec.encode_count), call.size)
            return self.codec.decode_count(await self._ask(http, call))
        except AntiphonError as error:
            self._tell(error, request.model, call)
            raise

    async def embed(self, request: EmbeddingRequest, call: Call) -> Embeddings:
        """Ask the upstream for the vectors of texts; where it takes them one by one, several are under way at once.

        Raises:
            APIError: It did not answer, or has no embeddings.
        """
        codec = self._embeddings
        if codec is None:
            raise BadRequestError(f"The provider {self.name!r} has no embeddings in the format {self.codec.name!r}.")
        try:
            requests = await computed(partial(codec.encode, request), sum(map(len, request.texts)) + len(request.texts))
            self._receipt(requests[0].losses, call)
            bodies = await self._ask_all(requests, call)
            answer = await computed(partial(codec.decode, request, bodies), sum(map(len, bodies)))
        except AntiphonError as error:
            bodies = []
            self._tell(error, request.model, call)
            raise
        return msgspec.structs.replace(answer, provider=self.name, losses=tuple(call.losses))

    @property
    def embedding_format(self) -> str:
        """Key of the format of its embeddings in `EmbeddingRequest.extra`."""
        return self.codec.name if self._embeddings is None else self._embeddings.name

    async def _ask_all(self, requests: Sequence[HTTPRequest], call: Call) -> list[bytes]:
        bodies = [b""] * len(requests)
        failed: list[AntiphonError] = []
        places = iter(range(len(requests)))

        async def ask() -> None:
            try:
                for place in places:  # each task takes the next one: a task for each would be too many
                    bodies[place] = await self._ask(requests[place], call)
            except AntiphonError as error:
                failed.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for _ in range(min(_AT_ONCE, len(requests))):
                group.start_soon(ask)
        if failed:
            raise failed[0]
        return bodies

    async def _ask(self, http: HTTPRequest, call: Call, base_url: str | None = None) -> bytes:
        """Send a request and return the whole body of its answer."""
        url = self._url(base_url or self.base_url, http)
        headers = HiddenHeaders(http.headers) | await self._sign(http, url) | call.headers
        try:
            async with self._transport.open(url, http, headers=headers, timeout=call.timeout) as reply:
                if 200 <= reply.status < 300:
                    return await reply.read(MAX_BODY)
                refusal = await self._refusal(reply)
        except APIError as error:
            error.of_connection = True
            raise
        raise refusal

    async def _refusal(self, reply: Response) -> APIError:
        """Read an error reply. A function of its own: a body that repeats a key is then no local of what raises."""
        return self.codec.decode_error(reply.status, _short(reply.headers), await _error_body(reply))

    def _url(self, base_url: str, http: HTTPRequest) -> str:
        if ("/." in http.path or "%" in http.path) and _leads_elsewhere(http.path.partition("?")[0]):
            # It would lead to another path of the provider, and the key with it.
            raise BadRequestError(
                "A model's name must not have '.' or '..' between slashes.", status=400, param="$.model"
            )
        url = base_url + http.path
        return f"{url}{'&' if '?' in http.path else '?'}{self._query}" if self._query else url

    async def _sign(self, http: HTTPRequest, url: str) -> Headers:
        """Return the header fields to add; a signer that may have to look for its keys does so in a thread."""
        if isinstance(self._auth, AWSSignature):
            return await run_in_thread(partial(self._auth, http, url))
        return self._auth(http, url)

    def _first(self, event: Event, reply: Response, model: str) -> tuple[Event, bool]:
        """Say who answers, and stop the first-token clock with the first event that brings something."""
        if type(event) is Start:
            event = completed(event, provider=self.name, model=event.model or model)
        if type(event) in _SILENT:
            return event, True
        reply.got_token()
        return event, False

    def _encode(self, request: ChatRequest, call: Call) -> HTTPRequest:
        if self._ask_usage and request.stream and request.include_usage is None:
            request = request.but(include_usage=True)
        return self._written(request, call, self.codec.encode_request)

    def _written(self, request: ChatRequest, call: Call, write: Callable[[ChatRequest], HTTPRequest]) -> HTTPRequest:
        losses: tuple[Loss, ...] = ()
        original_paths: dict[str, str] = {}
        if not all(message.provider in (None, self.name) for message in request.messages):
            request, losses = without_foreign_state(request, self.name, original_paths)
        try:
            http = write(request)
        except (UnicodeEncodeError, TypeError, RecursionError) as error:
            # The error itself has the text in question in its attributes, which may be private.
            known: dict[type, str] = {
                UnicodeEncodeError: "a lone surrogate is no character",
                RecursionError: "it is nested too deeply",
            }
            reason = known.get(type(error), str(error))
            raise BadRequestError(f"The request cannot be written as JSON: {reason}.", status=400, param="$") from None
        later = (Loss(loss.kind, original_path(loss.path, original_paths), loss.reason) for loss in http.losses)
        self._receipt((*losses, *later), call)
        return http

    def _receipt(self, losses: tuple[Loss, ...], call: Call) -> None:
        """Note what of the request could not be said; an error where the call forbids that."""
        call.losses.extend(losses)
        if call.strict and losses:
            listed = "; ".join(f"{loss.path}: {loss.reason}" for loss in losses[:_MAX_LISTED])
            raise BadRequestError(
                f"{len(losses)} part(s) of the request cannot be said in the format {self.codec.name!r}, and "
                f"strict=True forbids leaving them out. {listed}",
                param=losses[0].path,
            )

    def _tell(
        self,
        error: AntiphonError,
        model: str | None,
        call: Call | None = None,
        *,
        said: bool = False,
        carried: bool = False,
    ) -> None:
        """Let *error* say who failed, and nothing of a key that the provider may have repeated, in its frames neither.

        What was *said* already cannot be taken back, so no error after that is worth another try. One that came up
        while the transport *carried* the call is marked as one of the connection.
        """
        without_frames(error)
        if said and isinstance(error, APIError):
            error.retryable = False
        if carried and isinstance(error, APIError):
            error.of_connection = True
        error.provider = error.provider or self.name
        error.model = error.model or model
        if isinstance(error, StreamError | ResponseTooLargeError) and call is not None:  # after the header of a reply
            ids = (call.response_headers[name] for name in REQUEST_IDS if name in call.response_headers)
            error.request_id = error.request_id or next(ids, None)
        secrets = self._secrets if call is None else (*self._secrets, *keys_in(call.headers))
        clean = partial(without_keys, refused=isinstance(error, APIError) and refuses_key(error), secrets=secrets)
        message = clean(error.message)
        if message != error.message:
            error.message, error.args = message, (message,)
        if not isinstance(error, APIError):
            return
        for name in ("code", "type", "param", "request_id"):
            if (told := getattr(error, name)) is not None:
                setattr(error, name, clean(told))
        if error.body is not None:
            error.body = body_without_keys(error.body, clean)


def _leads_elsewhere(path: str) -> bool:
    """Whether *path* has a segment that stands for another one, also where a server looks at it unquoted."""
    for _ in range(_UNQUOTINGS + 1):
        if _DOTS.search(path):
            return True
        path = unquote(path)
    return False


def _closed(decoder: Decoder) -> Iterator[Event]:
    """Return the last events of an answer, all of which are read by now, before the fault after them."""
    events: list[Event] = []
    try:
        events.extend(decoder.close())
    except AntiphonError as fault:
        return _then_raised(events, fault)
    return iter(events)


def _then_raised(events: list[Event], fault: AntiphonError) -> Iterator[Event]:
    yield from events
    raise fault


def _forget(_data: bytes) -> None:
    """Keep nothing."""


def _media_type(reply: Response) -> str:
    return reply.content_type.partition(";")[0].strip().lower()


def _keeper(reply: Response, call: Call) -> Callable[[bytes], object]:
    """Return what to do with the bytes of *reply*: keep those of a whole answer, if the caller wants them."""
    whole = _media_type(reply) == "application/json"
    return call.body.append if whole and call.body is not None else _forget


def _go_on(reply: Response, *, said: bool) -> None:
    """Let the idle timeout begin again, after the time that the caller took, if a piece *said* anything."""
    if said:
        reply.got_token()


class _Progress:
    """Tells which bytes of a body count as progress though no event comes of them: those of a whole answer.

    A whole answer is JSON, and gives its events at its end. White space before it does not count, since providers send
    it while a request waits for its turn; neither do the comments and pings of a stream.
    """

    __slots__ = ("_whole",)

    def __init__(self, request: ChatRequest, reply: Response) -> None:
        self._whole = None if not request.stream or _media_type(reply) == "application/json" else False
        """Whether this is one; `None` until its first byte is there."""

    def counts(self, data: bytes) -> bool:
        """Take the next bytes and tell whether they count."""
        if self._whole is None and (start := data.lstrip(b" \t\r\n\xef\xbb\xbf")):
            self._whole = start.startswith((b"{", b"["))
        return bool(self._whole)


@functools.lru_cache(maxsize=512)
def _tells(name: str) -> bool:
    """Whether a header field of a reply says something of the request that is worth keeping."""
    return (
        name in REQUEST_IDS or "ratelimit" in name.replace("-", "") or name in ("retry-after", "openai-processing-ms")
    )


def _short(headers: Headers) -> dict[str, str]:
    """Return *headers* without those that are too long to be passed on or written to a log."""
    return {name: value for name, value in headers.items() if len(value) <= _MAX_FIELD}


async def _error_body(reply: Response) -> bytes:
    """Return the body of an error reply, nothing if it does not arrive whole: its status says more than that fault."""
    try:
        return await reply.read(_MAX_ERROR_BODY)
    except (APIConnectionError, ResponseTooLargeError, StreamError):
        return b""
