"""The files that an operator names in flags: can they be read, and do they hold what they should?

Asked once, before a child starts, so that a mistake is one line that names the flag. Each reader of such a file checks
it again when it reads it, for it may have changed by then.
"""

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


def _check(flag: str, file: Path | None, read: Callable[[Path], object]) -> None:
    if file is None:
        return
    try:
        read(file)
    except UnicodeDecodeError as error:
        raise UpError(f"{flag}: {file}: not a text file (UTF-8)") from error
    except OSError as error:
        raise UpError(f"cannot read {flag} {file}: {error.strerror}") from error
    except ValueError as error:
        words = " ".join(str(error).split()).rpartition(f"{file}: ")[2]  # some readers name the file themselves
        raise UpError(f"{flag}: {file}: {words}") from error


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
