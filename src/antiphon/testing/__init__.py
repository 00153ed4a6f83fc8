"""Doubles for tests, the package's own and yours: small real providers, and a real HTTP server that can misbehave.

`ProviderMock`, `AsyncProviderMock` and `AsyncGeneratorProviderMock` say "Mock" in the three forms a provider may have.
`Script` plays a list of steps. `Upstream` is an HTTP server on loopback that speaks a wire format's server side.
"""

from antiphon.testing.doubles import AsyncGeneratorProviderMock, AsyncProviderMock, Delay, ProviderMock, Script, Step
from antiphon.testing.faults import Fault
from antiphon.testing.upstream import Answer, SeenRequest, Upstream, vector_of

__all__ = [
    "Answer",
    "AsyncGeneratorProviderMock",
    "AsyncProviderMock",
    "Delay",
    "Fault",
    "ProviderMock",
    "Script",
    "SeenRequest",
    "Step",
    "Upstream",
    "vector_of",
]
