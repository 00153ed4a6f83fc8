"""The access log, written to what fails or holds it up."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import threading

import pytest

from antiphon.server.exchange import Exchange
from antiphon.server.log import AccessLog


def exchange(path: str) -> Exchange:
    """Return a request to *path* that is over."""

    async def unused(*_arguments: object) -> dict[str, object]:
        raise AssertionError("nothing is received or sent")

    return Exchange({"type": "http", "headers": [], "method": "GET", "path": path}, unused, unused)


class Disk(io.BytesIO):
    """An output whose second write finds no room."""

    writes = 0

    def write(self, data: object, /) -> int:
        """Write *data*, but for the second time."""
        self.writes += 1
        if self.writes == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)  # type: ignore[arg-type]


def test_a_full_disk_costs_the_lines_it_has_no_room_for(caplog: pytest.LogCaptureFixture) -> None:
    """Of five requests the one that met a full disk is missing; it is reported, and the log goes on."""
    disk = Disk()
    log = AccessLog(disk)
    with caplog.at_level(logging.ERROR, "antiphon.server"):
        for number in range(5):
            log(exchange(f"/{number}"))
        log.close()
    paths = [json.loads(text)["path"] for text in disk.getvalue().splitlines()]
    assert paths == ["/0", "/2", "/3", "/4"]
    assert "No space left on device. Lines lost so far: 1." in caplog.text


def test_a_pipe_that_is_not_read_holds_nothing_up() -> None:
    """More lines than a pipe holds are taken at once, and all arrive when it is read."""
    reading, writing = os.pipe()
    count = 2_000
    output = open(writing, "wb", buffering=0)
    log = AccessLog(output)
    for number in range(count):
        log(exchange(f"/{number}"))
    received: list[bytes] = []
    with open(reading, "rb") as pipe:
        reader = threading.Thread(target=lambda: received.extend(pipe))
        reader.start()
        log.close()
        output.close()
        reader.join()
    assert [json.loads(text)["path"] for text in received] == [f"/{number}" for number in range(count)]
