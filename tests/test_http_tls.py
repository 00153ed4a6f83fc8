"""`verify` and `cert`: which servers a client trusts, and how it proves who it is, against real TLS servers."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from antiphon import AsyncClient, Client
from antiphon.chat.answers import Completion
from antiphon.errors import APIConnectionError
from antiphon.formats.openai_chat import OpenAIChat
from antiphon.http.exchange import HTTPTransport
from tests.peers import Line, Peer, reply

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]),
]

ANSWER = reply(OpenAIChat().encode_response(Completion.of("ok")), "content-type: application/json")


def answer(line: Line) -> None:
    """Answer every request."""
    while line.request() is not None:
        line.send(ANSWER)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that nothing trusts by itself."""
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """The authority's certificate as a PEM file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """A server's side of TLS."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(made)
    return made


@pytest.fixture
def server(no_leaks: None, context: ssl.SSLContext) -> Iterator[Peer]:
    """A server that speaks TLS."""
    with Peer(answer, context) as peer:
        yield peer


@pytest.fixture
def demanding(no_leaks: None, context: ssl.SSLContext, bundle: Path) -> Iterator[Peer]:
    """A server that asks its clients for a certificate of the authority."""
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(bundle)
    with Peer(answer, context) as peer:
        yield peer


@pytest.fixture
def own(authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """A client's certificate, and its private key."""
    leaf = authority.issue_cert("client@example.org")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    for number, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(str(certificate), append=number > 0)
    leaf.private_key_pem.write_to_path(str(key))
    return certificate, key


async def ask(peer: Peer, **how: Any) -> str | None:
    """Make a call with a client of these arguments."""
    async with AsyncClient(base_url=peer.url("", host="localhost"), api_key="k", **how) as client:
        return (await client.chat.completions.create("hi", "m")).content


def folder(bundle: Path) -> Path:
    """Make a directory of certificates as OpenSSL looks them up."""
    directory = bundle.parent / "create_ssl_context"
    directory.mkdir()
    (directory / "authority.pem").write_bytes(bundle.read_bytes())
    subprocess.run(["openssl", "rehash", str(directory)], check=True)
    return directory


def own_context(bundle: Path) -> ssl.SSLContext:
    """Make a context that trusts the bundle."""
    return ssl.create_default_context(cafile=str(bundle))


@pytest.mark.parametrize("verify", [str, Path, folder, own_context, lambda bundle: False])
@pytest.mark.may_block("the test makes files and contexts itself")
async def test_trusted_servers(server: Peer, bundle: Path, verify: Callable[[Path], Any]) -> None:
    """A file, a directory and a context say whom to trust; False trusts any."""
    assert await ask(server, verify=verify(bundle)) == "ok"


@pytest.mark.parametrize("verify", [True, None])
async def test_servers_that_are_not_trusted(server: Peer, tmp_path: Path, verify: bool | None) -> None:
    """Without a word, and with other certificates, an unknown authority is an error that names the ways out."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(APIConnectionError, match=r"is not trusted: .* SSL_CERT_FILE .* verify="):
        await ask(server, verify=other if verify is None else verify)


async def test_a_file_stands_in_place_of_the_environment(
    server: Peer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is passed goes before SSL_CERT_FILE."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert await ask(server, verify=bundle) == "ok"


async def test_client_certificates(demanding: Peer, bundle: Path, own: tuple[Path, Path]) -> None:
    """A server that asks for a certificate gets it: from two files, from one, from a context."""
    both = own[0].parent / "both.pem"
    both.write_bytes(own[0].read_bytes() + own[1].read_bytes())
    context = own_context(bundle)
    context.load_cert_chain(*own)
    assert await ask(demanding, verify=bundle, cert=own) == "ok"
    assert await ask(demanding, verify=str(bundle), cert=str(both)) == "ok"
    assert await ask(demanding, verify=False, cert=both) == "ok"
    assert await ask(demanding, verify=context) == "ok"


async def test_a_certificate_that_is_missing(demanding: Peer, bundle: Path) -> None:
    """Without one, or with one that the server does not accept, the error says what the server may want."""
    with pytest.raises(APIConnectionError, match=r"localhost:\d+ (ended the TLS connection: .* cert=|broke the conn)"):
        await ask(demanding, verify=bundle)


@pytest.mark.usefixtures("anyio_backend")
def test_blocking_client(demanding: Peer, bundle: Path, own: tuple[Path, Path]) -> None:
    """The blocking client takes the same."""
    with Client(base_url=demanding.url("", host="localhost"), api_key="k", verify=bundle, cert=own) as client:
        assert client.chat.completions.create("hi", "m").content == "ok"


async def test_another_protocol(server: Peer, context: ssl.SSLContext, bundle: Path) -> None:
    """A context that has the server choose HTTP/2 is an error: the bytes after that would not be HTTP/1.1."""
    context.set_alpn_protocols(["h2"])
    mine = own_context(bundle)
    mine.set_alpn_protocols(["h2", "http/1.1"])
    with pytest.raises(APIConnectionError, match=r"offers 'h2'.*HttpxTransport"):
        await ask(server, verify=mine)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
async def test_files_of_no_use(
    server: Peer, bundle: Path, own: tuple[Path, Path], tmp_path: Path, content: bytes | None
) -> None:
    """A file that is missing, or holds something else, is an error that names it and says what to do."""
    bad = tmp_path / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    for how in ({"verify": bad}, {"verify": bundle, "cert": bad}, {"verify": bundle, "cert": (own[0], bad)}):
        with pytest.raises(APIConnectionError, match=r"\.pem'") as raised:
            await ask(server, **how)
        assert not raised.value.retryable
        assert raised.value.__context__ is None


@pytest.fixture
def locked(own: tuple[Path, Path]) -> Path:
    """The private key, encrypted with a password."""
    path = own[1].with_name("locked.key")
    command = ["openssl", "pkey", "-in", str(own[1]), "-aes256", "-passout", "pass:secret", "-out", str(path)]
    subprocess.run(command, check=True)
    return path


async def test_an_encrypted_key(server: Peer, bundle: Path, own: tuple[Path, Path], locked: Path) -> None:
    """A key with a password is an error: nothing asks for the password at the terminal."""
    with pytest.raises(APIConnectionError, match=r"unencrypted, in PEM form.*ssl\.SSLContext"):
        await ask(server, verify=bundle, cert=(own[0], locked))


@pytest.mark.usefixtures("anyio_backend")
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"verify": None}, "verify must be True, .* of the type NoneType"),
        ({"verify": 1}, "of the type int"),
        ({"cert": 1}, "cert must be the path"),
        ({"cert": ("a",)}, "cert must be the path"),
        ({"cert": ("a", "b", "c")}, "cert must be the path"),
        ({"cert": ("a", None)}, "cert must be the path"),
        ({"verify": ssl.create_default_context(), "cert": "a"}, r"load_cert_chain\(\)"),
        ({"verify": False, "transport": HTTPTransport()}, "are for the transport that comes with the client"),
        ({"cert": "a", "transport": HTTPTransport()}, "are for the transport that comes with the client"),
    ],
)
def test_what_is_no_setting(how: dict[str, Any], says: str) -> None:
    """What cannot be meant is an error when the client is made."""
    for kind in (Client, AsyncClient):
        with pytest.raises(TypeError, match=says):
            kind(**how)
