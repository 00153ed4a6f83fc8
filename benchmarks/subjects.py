"""What is compared: each library used as its documentation shows, on the same request and the same upstream.

Only the subject that stands for a library imports it, so that a child process holds one of them and nothing more.
Nothing else is imported here either: this module is part of what a child's memory is measured with.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ANSWER", "KEY", "MESSAGES", "MODEL", "SUBJECTS", "WORDS", "Subject"]

MODEL = "bench-1"
KEY = "not-a-key"
WORDS = ("once ", "upon ", "this ", "time ")
"""The pieces of every answer, all of one length; one word over and over is what LiteLLM takes for a broken model."""
ANSWER = "".join(WORDS) * 10
MESSAGES = [
    {"role": "system", "content": "You are a careful assistant. Answer in one word, and say so if you do not know."},
    {"role": "user", "content": "Which of the planets that we know of has the longest day?"},
]


class Subject:
    """Nothing but Python: the baseline of what starts a process. The others answer calls."""

    imported = "pass"
    """The statement that makes the library ready for use."""
    packages: tuple[str, ...] = ()
    """The distributions whose versions belong to the figures."""

    def begin(self, url: str) -> None:
        """Import the library and make its client for blocking calls; *url* ends in `/v1`."""

    def call(self) -> Any:
        """Ask for a whole answer."""

    def text(self, answer: Any) -> str:
        """Return the text of what `call` or `acall` returned."""
        raise NotImplementedError

    def stream(self, chunks: int) -> int:
        """Ask for a streamed answer of so many chunks, look at each, and return how long its text was."""
        raise NotImplementedError

    async def abegin(self, url: str) -> None:
        """Make the client for async calls, in the loop that they will be made in."""

    async def acall(self) -> Any:
        """Do what `call` does."""

    async def astream(self, chunks: int) -> int:
        """Do what `stream` does."""
        raise NotImplementedError

    async def aend(self) -> None:
        """Close the client for async calls."""


class Pyreqwest(Subject):
    """The HTTP client by hand: a request made beforehand, whole answers left as bytes, chunks decoded to dicts."""

    imported = "import pyreqwest.client"
    packages = ("pyreqwest", "msgspec")

    def begin(self, url: str) -> None:
        self._json = import_module("msgspec").json
        self._url = url + "/chat/completions"
        self._body = self._json.encode({"model": MODEL, "messages": MESSAGES, "temperature": 0})
        self._client = import_module("pyreqwest.client").SyncClientBuilder().build()

    def _ready(self, client: Any, body: bytes) -> Any:
        request = client.post(self._url).header("content-type", "application/json")
        return request.header("authorization", f"Bearer {KEY}").body_bytes(body)

    def _streamed(self, client: Any, chunks: int) -> Any:
        body = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "stream": True, "max_tokens": chunks}
        return self._ready(client, self._json.encode(body)).streamed_read_buffer_limit(0).build_streamed()

    def call(self) -> Any:
        return self._ready(self._client, self._body).build().send().bytes()

    def text(self, answer: Any) -> str:
        return str(self._json.decode(answer)["choices"][0]["message"]["content"])

    def stream(self, chunks: int) -> int:
        take, tail, length = self._taker(), b"", 0
        with self._streamed(self._client, chunks) as response:
            while (data := response.body_reader.read_chunk()) is not None:
                tail, more = take(tail + bytes(data))
                length += more
        return length

    def _taker(self) -> Callable[[bytes], tuple[bytes, int]]:
        decode = self._json.Decoder().decode

        def take(data: bytes) -> tuple[bytes, int]:
            length, frames = 0, data.split(b"\n\n")
            tail = frames.pop()
            for frame in frames:
                if frame != b"data: [DONE]" and (choices := decode(frame[6:])["choices"]):
                    length += len(choices[0]["delta"].get("content", ""))
            return tail, length

        return take

    async def abegin(self, url: str) -> None:
        self._async_client = import_module("pyreqwest.client").ClientBuilder().build()

    async def acall(self) -> Any:
        response = await self._ready(self._async_client, self._body).build().send()
        return await response.bytes()

    async def astream(self, chunks: int) -> int:
        take, tail, length = self._taker(), b"", 0
        async with self._streamed(self._async_client, chunks) as response:
            while (data := await response.body_reader.read_chunk()) is not None:
                tail, more = take(tail + bytes(data))
                length += more
        return length

    async def aend(self) -> None:
        await self._async_client.close()


class Shaped(Subject):
    """A library whose answers have OpenAI's shape."""

    _create: Any
    _acreate: Any

    def call(self) -> Any:
        return self._create(model=MODEL, messages=MESSAGES, temperature=0)

    def text(self, answer: Any) -> str:
        return str(answer.choices[0].message.content)

    def stream(self, chunks: int) -> int:
        length = 0
        for chunk in self._create(model=MODEL, messages=MESSAGES, temperature=0, stream=True, max_tokens=chunks):
            for choice in chunk.choices:
                if text := choice.delta.content:
                    length += len(text)
        return length

    async def acall(self) -> Any:
        return await self._acreate(model=MODEL, messages=MESSAGES, temperature=0)

    async def astream(self, chunks: int) -> int:
        length = 0
        request = self._acreate(model=MODEL, messages=MESSAGES, temperature=0, stream=True, max_tokens=chunks)
        async for chunk in await request:
            for choice in chunk.choices:
                if text := choice.delta.content:
                    length += len(text)
        return length


class Antiphon(Shaped):
    """This build."""

    imported = "from antiphon import Client"
    packages = ("antiphon", "msgspec", "anyio")

    def begin(self, url: str) -> None:
        self._client = import_module("antiphon").Client(base_url=url, api_key=KEY)
        self._create = self._client.chat.completions.create

    async def abegin(self, url: str) -> None:
        self._async_client = import_module("antiphon").AsyncClient(base_url=url, api_key=KEY)
        self._acreate = self._async_client.chat.completions.create

    async def aend(self) -> None:
        await self._async_client.close()


class OpenAI(Shaped):
    """The OpenAI client."""

    imported = "import openai"
    packages = ("openai",)

    def begin(self, url: str) -> None:
        self._create = import_module("openai").OpenAI(base_url=url, api_key=KEY).chat.completions.create

    async def abegin(self, url: str) -> None:
        self._async_client = import_module("openai").AsyncOpenAI(base_url=url, api_key=KEY)
        self._acreate = self._async_client.chat.completions.create

    async def aend(self) -> None:
        await self._async_client.close()


class LiteLLM(Shaped):
    """LiteLLM as a library."""

    imported = "import litellm"
    packages = ("litellm", "openai")

    def begin(self, url: str) -> None:
        litellm = import_module("litellm")
        partial = import_module("functools").partial
        self._create = partial(self._named, litellm.completion, url)
        self._acreate = partial(self._named, litellm.acompletion, url)

    @staticmethod
    def _named(function: Any, url: str, *, model: str, **params: Any) -> Any:
        return function(model=f"openai/{model}", api_base=url, api_key=KEY, **params)


SUBJECTS: dict[str, type[Subject]] = {
    "python": Subject,
    "pyreqwest": Pyreqwest,
    "antiphon": Antiphon,
    "openai": OpenAI,
    "litellm": LiteLLM,
}
