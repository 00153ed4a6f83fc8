"""The way out as the environment describes it: origins, proxies and trusted certificates.

Proxies: `HTTPS_PROXY`, `HTTP_PROXY` and `ALL_PROXY` by the scheme of the request, and `NO_PROXY`; lower-case names win,
as in curl. Certificates: OpenSSL's default places, or in their stead `SSL_CERT_FILE` and `SSL_CERT_DIR`.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from antiphon.errors import APIConnectionError

__all__ = ["Origin", "Proxies", "Proxy", "create_ssl_context", "origin_of"]

_DEFAULT_PORTS = {"http": 80, "https": 443}

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
"""Where systems keep their certificates. A Python that was built elsewhere may look in none of these by itself."""


class Origin(NamedTuple):
    """Where a request goes; `str()` gives `host:port`, which is all that errors tell of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self._bracketed}:{self.port}"

    @property
    def authority(self) -> str:
        """What the `host` field says: without a port that the scheme implies."""
        return self._bracketed if self.port == _DEFAULT_PORTS[self.scheme] else str(self)

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def origin_of(base: str) -> Origin | str:
    """Read scheme, host and port of a URL without its path; return what is wrong where no request can go to it.

    It returns the fault rather than raise it, so that no traceback holds the URL: that may hold a password.
    """
    try:
        parts = urlsplit(base)
        host, port = _host(parts), parts.port
    except ValueError:
        return "is malformed, or its port is not a number from 1 to 65535"
    if parts.scheme not in _DEFAULT_PORTS or not host:
        return "does not begin with http:// or https:// and a host"
    if parts.username is not None:
        return "holds a user name or a password, which belong into api_key"
    if port == 0:
        return "names port 0, where no server can be: a port is a number from 1 to 65535"
    return Origin(parts.scheme, host, _DEFAULT_PORTS[parts.scheme] if port is None else port)


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    labels = host.removesuffix(".").split(".") if host and ":" not in host else []
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError("A part of a host's name is empty or too long.")  # of which the look-up makes a UnicodeError
    return host


class Proxy:
    """A proxy that speaks HTTP. Not a tuple or a struct, whose `repr` would show the password."""

    def __init__(self, origin: Origin, authorization: str | None) -> None:
        self.origin = origin
        self.authorization = authorization


class Proxies:
    """Which proxy a request goes through.

    The environment is read when this is made.
    """

    def __init__(self) -> None:
        everywhere = _variable("all_proxy")
        # In a CGI program HTTP_PROXY is what the client of the web server sent as "Proxy:" (CVE-2016-5385).
        plain = os.environ.get("http_proxy", "") if "REQUEST_METHOD" in os.environ else _variable("http_proxy")
        self._by_scheme = {
            "http": _proxy("HTTP_PROXY", plain) if plain else _proxy("ALL_PROXY", everywhere),
            "https": _proxy("HTTPS_PROXY", secure)
            if (secure := _variable("https_proxy"))
            else _proxy("ALL_PROXY", everywhere),
        }
        """A text is the name of a variable that names no proxy that can be used."""
        self._direct = [entry.strip().lower() for entry in _variable("no_proxy").split(",") if entry.strip()]

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to *origin*, or `None` where they go straight there.

        Raises:
            APIConnectionError: The variable does not name a proxy that can be used. It is never silently passed by.
        """
        proxy = self._by_scheme[origin.scheme]
        if proxy is None or _listed(origin, self._direct):
            return None
        if isinstance(proxy, str):
            raise APIConnectionError(
                f"{proxy} does not name a proxy that can be used: only those like 'http://proxy.example.com:3128' can. "
                "Change the variable, or add the host of the provider to NO_PROXY.",
                retryable=False,
            )
        return proxy


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper(), "")


def _proxy(variable: str, value: str) -> Proxy | str | None:
    """Read a proxy's URL; return the name of its variable where it cannot be used."""
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = _host(parts), parts.port
    except ValueError:
        return variable
    if parts.scheme != "http" or not host or port == 0:
        return variable
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(pair.encode()).decode()
    return Proxy(Origin("http", host, 80 if port is None else port), authorization)


def _listed(origin: Origin, entries: Iterable[str]) -> bool:
    """Tell whether `NO_PROXY` lists *origin*: as `*`, a domain with all below it, an address, or a network."""
    for entry in entries:
        name, colon, port = entry.rpartition(":")
        if colon and port.isdigit() and "]" not in port and (":" not in name or name.endswith("]")):
            if int(port) != origin.port:
                continue
            entry = name
        domain = entry.strip("[]").removeprefix("*").removeprefix(".")
        if entry == "*" or origin.host == domain or origin.host.endswith("." + domain) or _within(origin.host, domain):
            return True
    return False


def _within(host: str, network: str) -> bool:
    import ipaddress  # only where NO_PROXY is set: it would add milliseconds to every start

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def create_ssl_context() -> ssl.SSLContext:
    """Make a TLS context that trusts what this machine trusts. Reads files: not for an event loop's thread.

    `SSL_CERT_FILE`, a PEM file, and `SSL_CERT_DIR`, a directory as `openssl rehash` makes it, stand in place of the
    system's certificates. Where neither is set and OpenSSL's own default places hold nothing, the usual ones of Linux
    distributions and macOS are looked at.

    Raises:
        APIConnectionError: `SSL_CERT_FILE` cannot be read or holds no certificate.
    """
    file, directory = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    try:
        context = ssl.create_default_context(cafile=file, capath=directory)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        fault = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else "cannot be read"
    else:
        context.set_alpn_protocols(["http/1.1"])
        if not (file or directory or _knows_authorities(context)):
            _look_around(context)
        return context
    raise APIConnectionError(
        f"SSL_CERT_FILE is set to {file!r}, which {fault}. Point it to a PEM file with the certificates to trust, or "
        "unset it to trust those of the system.",
        retryable=False,
    )


def _knows_authorities(context: ssl.SSLContext) -> bool:
    if context.cert_store_stats()["x509_ca"]:
        return True
    # OpenSSL reads the files of a directory as it needs them, so none of those has been counted yet.
    directory = ssl.get_default_verify_paths().capath
    return bool(directory) and bool(os.listdir(directory))


def _look_around(context: ssl.SSLContext) -> None:
    bundle = next(filter(os.path.isfile, _BUNDLES), None)
    if bundle:
        context.load_verify_locations(bundle)
