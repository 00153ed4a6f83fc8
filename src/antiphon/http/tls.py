"""TLS of a client: which servers it trusts, and how it proves who it is."""

from __future__ import annotations

import os
import ssl
from typing import TypeAlias

from antiphon.errors import APIConnectionError
from antiphon.http.environment import create_ssl_context

__all__ = ["TLS", "Certificate", "Verify"]

_Path: TypeAlias = str | os.PathLike[str]

Verify: TypeAlias = bool | _Path | ssl.SSLContext
"""Which servers to trust. `True`: those whose certificate the system vouches for, or `SSL_CERT_FILE` and `SSL_CERT_DIR`
in its place. A path: a PEM file, or a directory as `openssl rehash` makes it, in place of these. A context: whatever it
says. `False`: any server at all, so that whoever is on the way reads the key and the prompts."""

Certificate: TypeAlias = _Path | tuple[_Path, _Path]
"""What a client proves itself with: a PEM file with certificate and private key, or one of each; not encrypted."""


class TLS:
    """What `verify` and `cert` say; files are read when a context is made of it.

    Raises:
        TypeError: One is of a type that it cannot have, or `cert` stands beside a context, which has its own.
    """

    def __init__(self, verify: Verify = True, cert: Certificate | None = None) -> None:
        if not isinstance(verify, bool | str | os.PathLike | ssl.SSLContext):
            raise TypeError(
                "verify must be True, the path of a file or directory with certificates to trust, an ssl.SSLContext, "
                f"or False; it is of the type {type(verify).__name__}."
            )
        files: tuple[_Path, ...] = () if cert is None else cert if isinstance(cert, tuple) else (cert, cert)
        if len(files) not in (0, 2) or not all(isinstance(path, str | os.PathLike) for path in files):
            raise TypeError("cert must be the path of a PEM file, or a pair of paths: the certificate and its key.")
        if cert is not None and isinstance(verify, ssl.SSLContext):
            raise TypeError("A context that is passed as verify has its own certificate: use its load_cert_chain().")
        self._verify = verify
        self._cert = files

    def context(self) -> ssl.SSLContext:
        """Make the context. Reads files: not for an event loop's thread.

        Raises:
            APIConnectionError: A file cannot be read, or does not hold what it should.
        """
        if isinstance(self._verify, ssl.SSLContext):
            return self._verify
        if isinstance(self._verify, bool):
            context = create_ssl_context() if self._verify else _trusting_all()
        else:
            context = _trusting(self._verify)
        if self._cert:
            _load(context, *self._cert)
        return context


def _trusting_all() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _trusting(path: _Path) -> ssl.SSLContext:
    directory = os.path.isdir(path)
    try:
        context = ssl.create_default_context(cafile=None if directory else path, capath=path if directory else None)
    except OSError as error:  # ssl.SSLError is one
        fault = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else "cannot be read"
    else:
        context.set_alpn_protocols(["http/1.1"])
        return context
    raise APIConnectionError(
        f"verify is {os.fspath(path)!r}, which {fault}. Pass a PEM file with the certificates to trust, or True for "
        "those of the system.",
        retryable=False,
    )


def _load(context: ssl.SSLContext, certificate: _Path, key: _Path) -> None:
    try:
        # Without a password OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except OSError as error:
        # Of an SSLError there is no more to tell: OpenSSL's words for an encrypted key are those of a damaged one.
        fault = "not a certificate and its key, unencrypted, in PEM form"
        if not isinstance(error, ssl.SSLError):
            fault = f"cannot be read ({(error.strerror or 'unknown').lower()})"
    else:
        return
    raise APIConnectionError(
        f"The client's certificate, cert={os.fspath(certificate)!r}, is of no use: {fault}. An encrypted key can be "
        "loaded into an ssl.SSLContext of your own and passed as verify.",
        retryable=False,
    )
