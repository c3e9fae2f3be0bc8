"""The files that an operator names in flags: can they be read or written, and do they hold what they should?

Asked once, before a child starts, so that a mistake is one line that names the flag. Each reader of such a file checks
it again when it reads it, for it may have changed by then.
"""

import os
from collections.abc import Callable
from pathlib import Path

from portway.up.errors import UpError
from portway.up.settings import UpSettings


def check(settings: UpSettings) -> None:
    """Raises UpError for the first file that cannot be used."""
    _check("--client-ca-file", settings.client_ca_file, _certificates)
    _check("--token-auth-file", settings.token_auth_file, _tokens)
    _check("--basic-auth-file", settings.basic_auth_file, _passwords)
    _check("--audit-policy-file", settings.audit_policy_file, _policy)
    _check("--service-account-signing-key-file", settings.service_account_signing_key_file, _signing_key)
    for file in settings.service_account_key_file:
        _check("--service-account-key-file", file, _public_keys)
    _check_log("--audit-log-path", settings.audit_log_path)
    if settings.access_log != "off":
        _check_log("--access-log-path", settings.access_log_path)


def _check(flag: str, file: Path | None, read: Callable[[Path], object]) -> None:
    if file is None:
        return
    try:
        read(file)
    except UnicodeDecodeError as error:
        raise UpError(f"{flag}: {file}: not a text file (UTF-8)") from error
    except OSError as error:
        raise UpError(f"cannot read {flag} {file}: {error.strerror}") from error
    except RecursionError:
        raise UpError(f"{flag}: {file}: nested too deeply") from None
    except ValueError as error:
        words = " ".join(str(error).split()).rpartition(f"{file}: ")[2]  # some readers name the file themselves
        raise UpError(f"{flag}: {file}: {words}") from error


def _check_log(flag: str, path: str) -> None:
    """Make the directory and open the file to append, as kube-apiserver does when it starts."""
    if path in ("", "-") or Path(path).is_fifo():  # a pipe's reader may come later, and would go when we close it
        return
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY, 0o600))
    except OSError as error:
        raise UpError(f"cannot write {flag} {path}: {error.strerror}") from error


# What checks a file is imported here, by the start that needs it: most starts name no file.


def _certificates(file: Path) -> None:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        raise ValueError("holds no certificate (PEM)") from None


def _tokens(file: Path) -> None:
    from portway.kube.tokenfile import parse_token_file

    parse_token_file(file.read_text("utf-8"))


def _passwords(file: Path) -> None:
    from portway.kube.htpasswd import parse

    parse(file.read_text("utf-8"))


def _policy(file: Path) -> None:
    from portway.gateway.record.policy import load_policy

    with file.open("rb"):
        load_policy(str(file))


def _signing_key(file: Path) -> None:
    from portway.kube.jwkeys import load_private_key

    load_private_key(file.read_bytes())


def _public_keys(file: Path) -> None:
    from portway.kube.jwkeys import load_public_keys

    load_public_keys(file.read_bytes())
