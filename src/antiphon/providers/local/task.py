"""One request as llama.cpp answers it, in whichever process that is."""

from __future__ import annotations

from typing import Any

from antiphon.errors import StreamError
from antiphon.formats import json

__all__ = ["Task"]


class Task:
    """A request whose answer is handed on piece by piece; who receives it says how, in `give` and `progress`."""

    def __init__(self, body: bytes, *, embeddings: bool) -> None:
        self.body = body
        """A streamed request of Chat Completions, or one for embeddings; empty: the model is only to be loaded."""
        self.embeddings = embeddings
        self.status = 0
        """HTTP status of the answer; 0: not known yet."""
        self.stopping = False
        """Whether it has been given up."""
        self.failure: BaseException | None = None
        """What to raise at the end."""

    def give(self, status: int, piece: bytes) -> bool:
        """Hand on a piece of the answer: a server-sent event, or the JSON body of an error; say whether to go on."""
        raise NotImplementedError

    def progress(self) -> bool:
        """Note that llama.cpp went on without a piece to hand on; say whether to go on."""
        raise NotImplementedError

    def run(self, server: Any) -> None:
        """Let llama.cpp answer; in a worker."""
        try:
            if not self.progress() or not self.body:
                return
            if self.embeddings:
                answer: bytes = server.handle_embeddings(self.body)
                self.give(_status_of(answer), answer)
            else:
                server.handle_chat_completions(self.body, self._take)
        except (ValueError, RuntimeError) as error:
            self._refused(error)
        except BaseException as error:
            self.failure = error

    def _take(self, chunk: bytes) -> bool:
        """Take a chunk and say whether to stop. xllamacpp would swallow an exception."""
        try:
            if self.stopping:
                return True
            if b'"prompt_progress":' in chunk:  # never found inside a string of JSON, where quotes are escaped
                self.progress()
                return False
            status = self.status or _status_of(chunk)
            return not self.give(status, b"data: %b\n\n" % chunk if status == 200 else chunk)
        except BaseException as error:
            self.failure = error
            return True

    def _refused(self, error: Exception) -> None:
        """Make of what xllamacpp raised what the same server says over HTTP."""
        if self.status:
            self.failure = StreamError(f"llama.cpp broke off its answer: {error}")
            return
        status, kind = (400, "invalid_request_error") if isinstance(error, ValueError) else (500, "server_error")
        self.give(status, json.encode({"error": {"message": str(error), "type": kind}}))


def _status_of(chunk: bytes) -> int:
    """Return the status of an answer by its first chunk: an error of llama.cpp is an object with a `code`."""
    found = json.decode(chunk)
    fault = found.get("error") if json.is_object(found) else None
    if fault is None:
        return 200
    return (json.integer(fault.get("code")) if json.is_object(fault) else None) or 500
