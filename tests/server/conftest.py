"""What the tests with the official clients share: a server, and the upstream behind its provider `up`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from antiphon.testing import Upstream
from tests.server.clients import listening
from tests.serving import Serving


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Serving, Upstream]]:
    """A server, and the upstream of its provider `up`, which speaks Chat Completions."""
    with listening() as found:
        yield found


@pytest.fixture
def upstream(both: tuple[Serving, Upstream]) -> Iterator[Upstream]:
    """The upstream of the provider `up`, which behaves again when the test is over."""
    yield both[1]
    both[1].fault = None
