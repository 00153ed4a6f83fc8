"""Who is let in, by which key and from where; and that nobody reaches what a client may not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.formats.gemini import Gemini
from antiphon.providers.auth import Secret
from antiphon.providers.catalog import ProviderRow
from antiphon.providers.lookup import ProviderNames
from antiphon.server.exchange import is_id
from antiphon.server.middleware import UNAUTHENTICATED_PATHS
from antiphon.settings.config import Config, Limits, ServerSettings
from antiphon.settings.keys import AccessKeys, hash_key, new_key
from antiphon.testing import Fault, Upstream
from tests.server.raw import DIALECTS, Dialect, Response, Wire, ask, get, post, row
from tests.serving import Serving

KEY = new_key()
UPSTREAM_KEY = "sk-canary-0123456789abcdef"
METRICS = ServerSettings(metrics=True)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """The provider behind all servers here."""
    with Upstream("Hello there") as up:
        yield up


@pytest.fixture(scope="module")
def locked(upstream: Upstream) -> Iterator[Serving]:
    """A server with a key, and with every route that there can be."""
    config = Config(keys=AccessKeys({"ann": hash_key(KEY)}), server=METRICS)
    with Serving({"up": row(upstream)}, config) as serving:
        yield serving


@pytest.fixture(scope="module")
def keyless(upstream: Upstream) -> Iterator[Serving]:
    """A server without keys."""
    with Serving({"up": row(upstream)}) as serving:
        yield serving


def request_of(method: str, path: str, headers: str = "") -> bytes:
    """Return a request that a route takes, but for what it asks."""
    return get(path, headers) if method == "GET" else post(path, b"{}", headers)


def routes(serving: Serving) -> dict[str, str]:
    """Return the method by path of every route that the application has, with something in each place of a name."""
    return {
        route.path.replace("{model:path}", "up/x"): next(iter(sorted((route.methods or set()) - {"HEAD"})))
        for route in serving.application.routes
    }


def test_open_paths_are_routes(locked: Serving) -> None:
    """What is said to need no key is there."""
    assert UNAUTHENTICATED_PATHS <= routes(locked).keys()
    assert len(routes(locked)) > 20


def test_every_route_but_the_open_ones_wants_a_key(locked: Serving, subtests: pytest.Subtests) -> None:
    """Each route of the application answers 401 without a key and with a wrong one, unless it is listed as open."""
    for path, method in routes(locked).items():
        for headers in ("", f"authorization: Bearer {new_key()}\r\n"):
            with subtests.test(path=path, headers=headers):
                reply = ask(locked.port, request_of(method, path, headers))
                assert (reply.status == 401) == (path not in UNAUTHENTICATED_PATHS)
                assert reply.status in (200, 401)
                assert isinstance(reply.json, dict)


def test_what_is_no_route_wants_a_key_too(locked: Serving) -> None:
    """Without a key nobody is told what there is: neither by the path nor by the method."""
    for data in (get("/nothing"), get("/v1/chat/completions"), post("/health/"), get("/health/../v1/models")):
        assert ask(locked.port, data).status == 401


FIELDS = ("authorization: Bearer {}", "authorization: bearer  {}", "x-api-key: {}", "api-key: {}", "x-goog-api-key: {}")


@pytest.mark.parametrize("field", FIELDS)
def test_key_in_each_field(locked: Serving, field: str, subtests: pytest.Subtests) -> None:
    """The right key opens every route in each of the fields; the log has its name."""
    for path, method in routes(locked).items():
        with subtests.test(path=path):
            before = len(locked.done)
            reply = ask(locked.port, request_of(method, path, field.format(KEY) + "\r\n"))
            assert reply.status != 401
            exchange = locked.wait(before + 1)[-1]
            assert exchange.key == (None if path in UNAUTHENTICATED_PATHS else "ann")


@pytest.mark.parametrize(
    "presented",
    [
        "authorization: Basic " + KEY,
        "authorization: Bearer",
        "authorization: " + KEY[:-1],
        f"authorization: Bearer {KEY} {KEY}",
        "x-api-key: " + KEY.upper(),
        "x-api-key: " + "k" * 3000,
        "x-api-key: \xe9" + KEY,
        "cookie: key=" + KEY,
        "x-api-key: ann",
        "x-api-key: " + hash_key(KEY),
    ],
    ids=range(10),  # they may not have the key in them, which is another one in each process
)
def test_what_is_not_the_key(locked: Serving, presented: str) -> None:
    """Nothing but the key itself opens: not a part of it, its name, or what is stored of it."""
    reply = ask(locked.port, get("/v1/models", presented + "\r\n"))
    assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key")
    assert KEY[3:12] not in reply.body.decode()


def test_key_in_the_query_is_none(locked: Serving) -> None:
    """A key in the address would stand in logs on its way, so it is not looked for there."""
    assert ask(locked.port, get(f"/v1beta/models?key={KEY}")).status == 401


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_missing_key_is_told_in_each_dialect(locked: Serving, dialect: Dialect) -> None:
    """A client is told of a missing key where its dialect has the words of an error, and of a wrong one in others."""
    without = ask(locked.port, dialect.request())
    wrong = ask(locked.port, dialect.request(headers=f"x-api-key: {new_key()}\r\n"))
    assert (without.status, wrong.status) == (401, 401)
    assert dialect.said(without.json).startswith("This server wants a key")
    assert dialect.said(wrong.json).startswith("The key is none of this server's")


def test_one_of_several_fields_is_enough(locked: Serving) -> None:
    """A client that sends a wrong key in one field and the right one in another is let in."""
    assert ask(locked.port, get("/v1/models", f"authorization: Bearer none\r\nx-api-key: {KEY}\r\n")).status == 200


def test_a_key_is_asked_of_every_request_of_a_connection(locked: Serving) -> None:
    """A connection over which the right key came is no better than another."""
    with Wire(locked.port) as wire:
        wire.send(get("/v1/models", f"x-api-key: {KEY}\r\n") + get("/v1/models") + get("/health"))
        assert [wire.reply().status for _ in range(3)] == [200, 401, 200]


# --- without keys: web pages


@pytest.mark.parametrize("host", ["localhost", "LocalHost:4114", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:4114"])
def test_this_machine_is_let_in(keyless: Serving, host: str) -> None:
    """A program that calls this machine by any of its names is answered."""
    assert ask(keyless.port, f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:4114", "[", "192.0.2.1", "localhost@evil"],
)
def test_foreign_host_is_refused(keyless: Serving, host: str) -> None:
    """A page whose name was made to point at this machine is told by that name."""
    reply = ask(keyless.port, f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    assert (reply.status, reply.json["error"]["code"]) == (403, "origin_not_allowed")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "file://"])
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
def test_web_page_is_refused(keyless: Serving, upstream: Upstream, dialect: Dialect, origin: str) -> None:
    """A request that a browser sends for a page is refused in its dialect; the provider hears nothing of it."""
    before = len(upstream.requests)
    reply = ask(keyless.port, dialect.request(headers=f"origin: {origin}\r\n"))
    assert reply.status == 403
    assert "web page" in dialect.said(reply.json)
    assert "access-control-allow-origin" not in reply.headers
    assert len(upstream.requests) == before


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_page_of_another_site_is_refused_without_an_origin(keyless: Serving, site: str, method: str) -> None:
    """A browser sends no origin with an image or a link, but says that they are for another site."""
    fields = f"sec-fetch-site: {site}\r\nsec-fetch-mode: no-cors\r\nsec-fetch-dest: image\r\n"
    for path in ("/v1/models", "/api/tags", "/", "/nothing"):
        with Wire(keyless.port) as wire:
            wire.send(get(path, fields).replace(b"GET", method.encode(), 1))
            assert wire.head()[0] == 403
    assert ask(keyless.port, get("/health", fields)).status == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_address_that_a_user_types_is_answered(keyless: Serving, site: str) -> None:
    """What no foreign page is behind is answered, though a browser sends it."""
    assert ask(keyless.port, get("/v1/models", f"sec-fetch-site: {site}\r\n")).status == 200


def test_page_of_another_site_is_let_in_where_it_is_configured(upstream: Upstream, locked: Serving) -> None:
    """With a key, from a page in `server.cors_origins`, or where any page may call, the site does not matter."""
    fields = "sec-fetch-site: cross-site\r\n"
    assert ask(locked.port, get("/v1/models", f"{fields}x-api-key: {KEY}\r\n")).status == 200
    for origins, more, status in (
        (("*",), "", 200),
        (("https://chat.example",), "origin: https://chat.example\r\n", 200),
        (("https://chat.example",), "", 403),
        (("https://chat.example",), "origin: https://evil.example\r\n", 403),
    ):
        config = Config(server=ServerSettings(cors_origins=origins))
        with Serving({"up": row(upstream)}, config) as serving:
            assert ask(serving.port, get("/v1/models", fields + more)).status == status


def preflight(port: int, origin: str) -> Response:
    """Ask as a browser does before it sends a request for a page."""
    asked = f"origin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-api-key\r\n"
    return ask(port, get("/v1/messages", asked).replace(b"GET", b"OPTIONS", 1))


@pytest.mark.parametrize("keys", [AccessKeys(), AccessKeys({"ann": hash_key(KEY)})], ids=["keyless", "locked"])
def test_pages_that_are_configured(upstream: Upstream, keys: AccessKeys) -> None:
    """The pages in `server.cors_origins` may call, with what a browser asks first; no other may."""
    config = Config(keys=keys, server=ServerSettings(cors_origins=("https://chat.example",)))
    with Serving({"up": row(upstream)}, config) as serving:
        allowed = preflight(serving.port, "https://chat.example")
        assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://chat.example")
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert allowed.headers["access-control-allow-headers"] == "x-api-key"
        assert allowed.headers["access-control-max-age"] == "600"  # or browsers ask before each request
        refused = preflight(serving.port, "https://evil.example")
        assert refused.status >= 400
        assert "access-control-allow-origin" not in refused.headers
        reply = ask(
            serving.port, DIALECTS["openai"].request(headers=f"origin: https://chat.example\r\nx-api-key: {KEY}\r\n")
        )
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://chat.example")
        assert reply.headers["vary"] == "origin"  # a cache may not give it to another page
        assert "x-request-id" in reply.headers["access-control-expose-headers"]
        evil = ask(
            serving.port, DIALECTS["openai"].request(headers=f"origin: https://evil.example\r\nx-api-key: {KEY}\r\n")
        )
        assert "access-control-allow-origin" not in evil.headers
        assert evil.status == (
            200 if keys else 403
        )  # with a key it may be any program; a browser hides it from the page


def test_no_page_is_answered_unless_configured(keyless: Serving) -> None:
    """Without configured pages there is no CORS: what a browser asks first is refused."""
    reply = preflight(keyless.port, "https://chat.example")
    assert reply.status == 403
    assert not [name for name in reply.headers if name.startswith("access-control")]


# --- ids


@pytest.mark.parametrize("id", ["a", "req_1.2:3-4", "x" * 128])
def test_sane_id_is_kept(keyless: Serving, id: str) -> None:
    """The id that a client gives its request is the one it is answered and logged with."""
    before = len(keyless.done)
    assert ask(keyless.port, get("/health", f"x-request-id: {id}\r\n")).headers["x-request-id"] == id
    assert keyless.wait(before + 1)[-1].id == id


@pytest.mark.parametrize("id", ["", "x" * 129, "a b", 'a"b', "é", "a\tb", "\\n", "${jndi}", "<b>"], ids=ascii)
def test_strange_id_is_replaced(keyless: Serving, id: str) -> None:
    """An id that could do harm in a log is replaced."""
    given = ask(keyless.port, get("/health", f"x-request-id: {id}\r\n")).headers["x-request-id"]
    assert given != id
    assert is_id(given)


# --- what a client cannot name


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 401])
def test_key_of_the_provider_reaches_no_client(dialect: Dialect, stream: bool, status: int) -> None:
    """A provider that repeats the key in its error does not get it to the client, nor into the log's words."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {UPSTREAM_KEY}.", "type": "x", "code": None}})
    headers = {"x-ratelimit-key": UPSTREAM_KEY, "retry-after": "1"}
    with Upstream(fault=Fault.of_status(status, body, headers=headers)) as upstream:
        known = ProviderRow(id="up", name="Up", codec="openai-chat", base_url=upstream.base_url)
        config = Config(names=ProviderNames(keys={"up": Secret(UPSTREAM_KEY)}, files=()))
        with Serving({"up": known}, config) as serving:
            reply = ask(serving.port, dialect.request(stream=stream))
        assert upstream.requests[0].headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert reply.status >= 400
    if status == 400:  # of a key that it refuses, its words stay in the log
        assert "Incorrect API key" in dialect.said(reply.json)
    assert "canary" not in repr(reply)


@pytest.mark.parametrize(
    "model",
    [
        "local//etc/passwd",
        "local/x.gguf",
        "local/X.GGUF",
        "local/../../x.gguf",
        "local/~/x.gguf",
        "local/x.gguf\x00",
        "local/x.gguf ",
        "/etc/passwd",
        "../up/x",
        "http://127.0.0.1:1/v1",
        "file:///etc/passwd",
        "antiphon.testing:Upstream/x",
        "os/system",
        "__class__/x",
    ],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_client_can_name_no_file_and_no_address(keyless: Serving, dialect: str, model: str) -> None:
    """A model's name is looked up among those that the server knows: it opens no file and no connection."""
    known = DIALECTS[dialect]
    reply = ask(keyless.port, known.request(model=model))
    assert reply.status in (400, 404), reply
    assert known.said(reply.json)


@pytest.mark.parametrize(
    "more",
    [
        {"base_url": "http://127.0.0.1:1"},
        {"api_base": "http://127.0.0.1:1", "api_key": UPSTREAM_KEY},
        {"extra_headers": {"authorization": "x"}, "headers": {"x-evil": "1"}},
        {"extra_body": {"evil": 1}, "provider": "openai", "timeout": 0.001},
    ],
    ids=lambda more: next(iter(more)),
)
def test_client_can_set_nothing_of_the_call(keyless: Serving, upstream: Upstream, more: dict[str, Any]) -> None:
    """Fields that a call of the library takes are, from a client, fields of the body and no more."""
    body = {**DIALECTS["openai"].body, **more}
    before = len(upstream.requests)
    fields = ("x-evil", "cookie", "x-forwarded-for", "openai-organization", "x-stainless-lang")
    headers = "".join(f"{name}: evil\r\n" for name in fields)
    assert ask(keyless.port, post("/v1/chat/completions", json.dumps(body).encode(), headers)).status == 200
    (seen,) = upstream.requests[before:]
    assert seen.path == "/v1/chat/completions"
    assert not set(fields) & seen.headers.keys()
    assert "authorization" not in seen.headers


def test_key_of_the_server_goes_to_no_provider(upstream: Upstream, locked: Serving) -> None:
    """The key that a client shows to the server is for the server alone."""
    for field in FIELDS:
        before = len(upstream.requests)
        assert ask(locked.port, DIALECTS["openai"].request(headers=field.format(KEY) + "\r\n")).status == 200
        (seen,) = upstream.requests[before:]
        assert KEY not in repr(seen)


def test_path_in_the_name_stays_in_the_name(keyless: Serving, upstream: Upstream) -> None:
    """Dots, slashes and percent signs in a model's name lead to no other path of the provider."""
    before = len(upstream.requests)
    for model in ("up/../../x", "up/x?a=b", "up/%2e%2e/x", "up//x"):
        ask(keyless.port, DIALECTS["openai"].request(model=model))
    assert {seen.path for seen in upstream.requests[before:]} <= {"/v1/chat/completions"}


@pytest.mark.parametrize(
    "model",
    [
        "up/../../admin",
        *("up/x?key=1#a", "up/a%2Fb", "up/x\r\nevil: 1", "up/é"),
    ],
    ids=ascii,
)
def test_path_in_the_name_stays_in_the_name_where_it_is_in_the_path(model: str) -> None:
    """Where a provider has the model's name in its path, a name can still not lead to another path or host."""
    with Upstream("Hello", codec=Gemini()) as upstream:
        known = ProviderRow(id="up", name="Up", codec="gemini", base_url=upstream.base_url)
        with Serving({"up": known}) as serving:
            reply = ask(serving.port, DIALECTS["openai"].request(model=model))
        assert reply.status < 500
        for seen in upstream.requests:
            assert seen.path.startswith("/v1/v1beta/models/")
            assert seen.path.endswith(":generateContent")
            assert ".." not in seen.path.split("/")
            assert "evil" not in seen.headers


def test_no_room_is_a_503_in_json(upstream: Upstream) -> None:
    """A request beyond those that the server does at once is told so when its turn does not come."""
    with Upstream(fault=Fault.stall(after=-1)) as stalled:
        config = Config(limits=Limits(concurrent=1, queue_seconds=0.05))
        with Serving({"up": row(stalled)}, config) as serving, Wire(serving.port) as first:
            first.send(DIALECTS["openai"].request())
            with Wire(serving.port) as held:
                # Which of the two has the place is the server's affair: whichever has not is told.
                held.send(DIALECTS["openai"].request())
                (exchange,) = serving.wait()
            assert exchange.status == 503
            assert ask(serving.port, get("/health")).status == 200
            first.close()
            serving.wait(3)
