"""TLS settings of a connection to an API server, checked as Go's clients do.

Private keys that come as data never touch a disk: OpenSSL wants a path, and an anonymous memory file has one.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


class TlsError(Exception):
    """A certificate or key that can't be read or used, in one line."""


def client_context(
    *,
    authority_file: str | None = None,
    authority_data: bytes | None = None,
    verify: bool = True,
    certificate_file: str | None = None,
    certificate_data: bytes | None = None,
    key_file: str | None = None,
    key_data: bytes | None = None,
) -> ssl.SSLContext:
    """A client's context: trust in the given authority (else the system's), and a client certificate when given.

    Data wins over files, as in a kubeconfig. Raises TlsError.
    """
    try:
        context = _trusting(authority_file, authority_data)
    except OSError as error:
        raise TlsError(f"cannot use the certificate authority {authority_file or 'data'}: {_said(error)}") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    has_certificate, has_key = bool(certificate_data or certificate_file), bool(key_data or key_file)
    if has_certificate != has_key:
        raise TlsError("a client certificate and its key are only of use together")
    if has_certificate:
        _identify(context, certificate_file, certificate_data, key_file, key_data)
    return context


def _trusting(file: str | None, data: bytes | None) -> ssl.SSLContext:
    if data:
        context = ssl.create_default_context(cadata=data.decode("utf-8", "replace"))
    else:
        context = ssl.create_default_context(cafile=file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Go trusts whatever certificate it is given as an authority, also one that is not self-signed, and does not insist
    # on key identifiers; clusters in the field rely on both.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _identify(
    context: ssl.SSLContext,
    certificate_file: str | None,
    certificate_data: bytes | None,
    key_file: str | None,
    key_data: bytes | None,
) -> None:
    try:
        with _path(certificate_file, certificate_data) as certificate, _path(key_file, key_data) as key:
            # An encrypted key must not make OpenSSL ask at the terminal: an empty passphrase fails instead.
            context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        where = certificate_file if certificate_file and not certificate_data else "data"
        raise TlsError(f"cannot use the client certificate {where}: {_said(error)}") from error


@contextmanager
def _path(file: str | None, data: bytes | None) -> Iterator[str]:
    """A path under which the content can be read."""
    if not data:
        yield file or ""
        return
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
