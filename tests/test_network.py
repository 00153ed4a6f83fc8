"""The way out: origins, proxies and certificates as the environment has them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from antiphon.errors import APIConnectionError
from antiphon.http import environment
from antiphon.http.environment import Origin, Proxies, create_ssl_context, origin_of


@pytest.mark.parametrize(
    ("base", "origin", "text", "authority"),
    [
        ("http://localhost", ("http", "localhost", 80), "localhost:80", "localhost"),
        ("https://API.example.com", ("https", "api.example.com", 443), "api.example.com:443", "api.example.com"),
        ("http://127.0.0.1:8000", ("http", "127.0.0.1", 8000), "127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://localhost.:", ("http", "localhost.", 80), "localhost.:80", "localhost."),
        ("https://[::1]:443", ("https", "::1", 443), "[::1]:443", "[::1]"),
        (
            "http://bücher.example",
            ("http", "xn--bcher-kva.example", 80),
            "xn--bcher-kva.example:80",
            "xn--bcher-kva.example",
        ),
    ],
)
def test_origins(base: str, origin: tuple[str, str, int], text: str, authority: str) -> None:
    """A URL's beginning names scheme, host and port; the host field leaves out a port that the scheme implies."""
    got = origin_of(base)
    assert isinstance(got, Origin)
    assert (got, str(got), got.authority) == (origin, text, authority)


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("", "does not begin with http"),
        ("localhost:80", "does not begin with http"),
        ("ftp://a", "does not begin with http"),
        ("http://", "does not begin with http"),
        ("http://[::1", "is malformed"),
        ("http://a:99999", "port is not a number from 1 to 65535"),
        ("http://a:b", "port is not a number from 1 to 65535"),
        ("http://a:0", "names port 0"),
        ("https://[::1]:00", "names port 0"),
        ("http://a..b", "is malformed"),
        ("http://.", "is malformed"),
        (f"http://{'a' * 64}", "is malformed"),
        ("http://u:p@a", "password"),
        ("http://@a", "password"),
    ],
)
def test_no_origin(base: str, why: str) -> None:
    """What no request can go to gives words that say why and repeat nothing of it."""
    fault = origin_of(base)
    assert isinstance(fault, str)
    assert why in fault
    assert not any(part in fault for part in ("localhost", "ftp", "99999", "u:p", "a..b", "aaa"))


@pytest.mark.parametrize(
    ("entries", "host", "port", "direct"),
    [
        ("*", "any.example", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        (" Example.COM ,other", "example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        ("example.com:443", "example.com", 443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.1", "10.0.0.1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("fe80::/10", "fe80::1", 80, True),
        ("", "example.com", 443, False),
        (", ,", "example.com", 443, False),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, entries: str, host: str, port: int, direct: bool) -> None:
    """NO_PROXY lists domains with all below them, addresses, networks, each with a port or without, or everything."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", entries)
    assert (Proxies().proxy_for(Origin("https", host, port)) is None) == direct


def test_precedence_of_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme's own variable wins over ALL_PROXY, and a lower-case name over its upper-case twin."""
    origin = Origin("https", "example.com", 443)
    assert Proxies().proxy_for(origin) is None
    for name, host in [("ALL_PROXY", "a"), ("all_proxy", "b"), ("HTTPS_PROXY", "c"), ("https_proxy", "d")]:
        monkeypatch.setenv(name, f"http://{host}:1")
        proxy = Proxies().proxy_for(origin)
        assert proxy is not None
        assert proxy.origin == Origin("http", host, 1)
    plain = Proxies().proxy_for(Origin("http", "example.com", 80))
    assert plain is not None
    assert plain.origin.host == "b"


def test_proxy_of_a_cgi_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a CGI program HTTP_PROXY comes from the outside and does not count; http_proxy does."""
    origin = Origin("http", "example.com", 80)
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv("HTTP_PROXY", "http://evil:1")
    assert Proxies().proxy_for(origin) is None
    monkeypatch.setenv("http_proxy", "http://good:1")
    assert Proxies().proxy_for(origin) is not None


def test_passwords_of_proxies_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor the error about one shows its password."""
    monkeypatch.setenv("ALL_PROXY", "http://user:hidden@proxy.example")
    proxy = Proxies().proxy_for(Origin("http", "example.com", 80))
    assert "hidden" not in repr(proxy)
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@proxy.example")
    with pytest.raises(APIConnectionError, match="ALL_PROXY does not name a proxy") as raised:
        Proxies().proxy_for(Origin("http", "example.com", 80))
    assert "hidden" not in str(raised.value)


def test_proxies_that_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that cannot be used is an error only for a request that would go through it."""
    plain, secure = Origin("http", "example.com", 80), Origin("https", "example.com", 443)
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    proxies = Proxies()
    assert (found := proxies.proxy_for(secure)) is not None
    assert found.origin.port == 3128
    with pytest.raises(APIConnectionError, match="HTTP_PROXY does not name a proxy"):
        proxies.proxy_for(plain)
    monkeypatch.setenv("NO_PROXY", "*")
    assert Proxies().proxy_for(plain) is None


@pytest.mark.parametrize("url", ["http://proxy.example:0", "http://a..b", "http://[::1"])
def test_proxies_that_are_nowhere(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """A proxy at port 0, or at a name that is none, cannot be used."""
    monkeypatch.setenv("ALL_PROXY", url)
    with pytest.raises(APIConnectionError, match="ALL_PROXY does not name a proxy"):
        Proxies().proxy_for(Origin("http", "example.com", 80))


def authorities(context: ssl.SSLContext) -> int:
    """How many authorities are trusted by now."""
    return context.cert_store_stats()["x509_ca"]


def test_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SSL_CERT_FILE stands in place of the system's certificates."""
    file = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert authorities(create_ssl_context()) == 1


def test_certificates_in_unusual_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where OpenSSL's own places hold nothing, the first bundle of a known system is trusted; with none, nobody is."""
    empty = tmp_path / "none"
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda self, purpose=None: None)
    monkeypatch.setattr(
        ssl,
        "get_default_verify_paths",
        lambda: ssl.DefaultVerifyPaths(None, None, "", "", "", ""),  # type: ignore[arg-type]
    )
    monkeypatch.setattr(environment, "_BUNDLES", (str(empty),))
    assert authorities(create_ssl_context()) == 0
    file = tmp_path / "bundle.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    monkeypatch.setattr(environment, "_BUNDLES", (str(empty), str(file)))
    assert authorities(create_ssl_context()) == 1
