"""First run: keys, tokens, users and the admin's kubeconfig. Later runs: the same, where it is still good.

Everything is made in one go and only when missing, so that a second start makes nothing. Files that the operator
named in flags are checked first (`given.py`), so that a mistake is one line and not a dead child. Next: `run.py`.
"""

import ipaddress
import platform
import secrets
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portway.up import certificates, given, kubeconfig, users
from portway.up.certificates import KeyPair
from portway.up.datadir import DataDir, write_private
from portway.up.errors import UpError
from portway.up.settings import UpSettings

ADMIN = "admin"
MASTERS = "system:masters"
DEMO_USER = "demo"
_RANDOM_PASSWORD_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files that the children read, and the words that a person is told.

    Attributes:
        tls_cert, tls_key: what the TLS listener serves with.
        client_ca: authorities of client certificates: the cluster's own and the operator's.
        tokens: static tokens: the admin's and the operator's.
        htpasswd: users and password hashes.
        signing_key: the private key that signs service account tokens.
        kubeconfig: the admin's.
        anchor: what verifies the TLS listener's certificate, PEM; b"" when only a public authority does.
        names: which the door is called by.
        demo_password: of the user `demo`; "" when there is none.
    """

    tls_cert: Path
    tls_key: Path
    client_ca: Path
    tokens: Path
    htpasswd: Path
    signing_key: Path
    kubeconfig: Path
    anchor: bytes
    names: tuple[str, ...]
    demo_password: str


def bootstrap(settings: UpSettings, directory: DataDir) -> Credentials:
    """Bring the data directory up to date; UpError for a file that cannot be read, written or used."""
    given.check(settings)
    try:
        credentials = _make_all(settings, directory)
    except OSError as error:
        raise UpError(f"data directory {directory.root}: {_words_of(error)}") from error
    for problem in join_trust(settings, directory):
        raise problem
    return credentials


def join_trust(settings: UpSettings, directory: DataDir) -> list[UpError]:
    """Put the cluster's own authority and token beside the operator's, where the workers read them.

    Again at each reload, so that a token added to the operator's file counts. A file that cannot be joined stays as it
    was and keeps no other from being joined; what was wrong is returned.
    """
    problems = []
    for target, own, theirs in (
        (directory.run / "client-ca.pem", directory.pki / "ca.crt", settings.client_ca_file),
        (directory.run / "tokens.csv", directory.admin_tokens, settings.token_auth_file),
    ):
        try:
            _join(target, own, theirs)
        except OSError as error:
            problems.append(UpError(_words_of(error)))
    return problems


def _words_of(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def _make_all(settings: UpSettings, directory: DataDir) -> Credentials:
    authority = _authority(directory)
    admin = _admin_certificate(directory, authority)
    tls_cert, tls_key = _serving_files(settings, directory, authority)
    _make(directory.admin_tokens, lambda: f'{secrets.token_urlsafe(32)},{ADMIN},{ADMIN},"{MASTERS}"\n'.encode())
    signing_key = settings.service_account_signing_key_file or directory.pki / "sa.key"
    if settings.service_account_signing_key_file is None:
        _make(signing_key, certificates.make_signing_key)
        _check_open(signing_key, "key")
    htpasswd = settings.basic_auth_file or directory.htpasswd
    if settings.basic_auth_file is None:
        _make(htpasswd, lambda: b"")
    # The operator's own file is read, never edited: its users are enough.
    password = _demo_user(directory, htpasswd) if settings.demo and settings.basic_auth_file is None else ""
    target = settings.kubeconfig or directory.kubeconfig
    anchor = certificates.anchors(tls_cert.read_bytes()) if settings.tls_cert_file else authority.certificate
    kubeconfig.write(target, kubeconfig.Access(settings.server, anchor, admin, settings.plain_server))
    return Credentials(
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=directory.run / "client-ca.pem",
        tokens=directory.run / "tokens.csv",
        htpasswd=htpasswd,
        signing_key=signing_key,
        kubeconfig=target,
        anchor=anchor,
        names=door_names(settings, tls_cert.read_bytes()),
        demo_password=password,
    )


def serving_names(settings: UpSettings) -> tuple[str, ...]:
    """Every name and address by which a client may rightly call this cluster."""
    first_service_addresses = [
        str(ipaddress.ip_network(one)[1]) for one in settings.service_cluster_ip_range.split(",")
    ]
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += ["kubernetes.default.svc.cluster.local", "127.0.0.1", "::1", *first_service_addresses]
    names.append(settings.advertise_address)
    if not ipaddress.ip_address(settings.bind_address).is_unspecified:
        names.append(settings.bind_address)
    return tuple(dict.fromkeys(names))


def door_names(settings: UpSettings, certificate: bytes) -> tuple[str, ...]:
    """Every name by which the door is known to be called, lower-case: in its certificate, and on this network.

    Wildcards are as in the certificate.
    """
    here = platform.node().lower()
    names = (*serving_names(settings), *certificates.dns_names(certificate), here, f"{here.partition('.')[0]}.local")
    return tuple(dict.fromkeys(name.lower() for name in names if name))


def _authority(directory: DataDir) -> KeyPair:
    found = _read_pair(directory.pki / "ca")
    if found is None:
        found = certificates.make_authority("portway-ca")
        _write_pair(directory.pki / "ca", found)
    return found


def _admin_certificate(directory: DataDir, authority: KeyPair) -> KeyPair:
    found = _usable(_read_pair(directory.pki / "admin"), authority)
    if found is None:
        found = certificates.make_client_certificate(authority, ADMIN, [MASTERS])
        _write_pair(directory.pki / "admin", found)
    return found


def _serving_files(settings: UpSettings, directory: DataDir, authority: KeyPair) -> tuple[Path, Path]:
    if settings.tls_cert_file is not None and settings.tls_private_key_file is not None:
        _check_pair(settings.tls_cert_file, settings.tls_private_key_file)
        return settings.tls_cert_file, settings.tls_private_key_file
    base = directory.pki / "apiserver"
    names = serving_names(settings)
    if _usable(_read_pair(base), authority, names) is None:
        _write_pair(base, certificates.make_server_certificate(authority, names))
    return base.with_suffix(".crt"), base.with_suffix(".key")


def _usable(found: KeyPair | None, authority: KeyPair, names: tuple[str, ...] = ()) -> KeyPair | None:
    if found is None or not certificates.signed_by(found.certificate, authority.certificate):
        return None
    return None if certificates.needs_renewal(found.certificate, names) else found


def _read_pair(base: Path) -> KeyPair | None:
    certificate, key = base.with_suffix(".crt"), base.with_suffix(".key")
    try:
        pair = KeyPair(certificate.read_bytes(), key.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UpError(f"cannot read {error.filename}: {error.strerror}") from error
    _check_pair(certificate, key)
    return pair


def _write_pair(base: Path, pair: KeyPair) -> None:
    write_private(base.with_suffix(".key"), pair.key)
    write_private(base.with_suffix(".crt"), pair.certificate)


def _check_pair(certificate: Path, key: Path) -> None:
    """That both can be read, are PEM and belong together: what the workers' TLS context will ask of them."""
    for file in (certificate, key):
        _check_open(file, "certificate" if file is certificate else "key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise UpError(f"certificate {certificate} and key {key} cannot be used: {_words(reason)}") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ") if reason.isupper() or "_" in reason else reason


def _check_open(file: Path, what: str) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise UpError(f"cannot read {what} {file}: {error.strerror}") from error


def _make(path: Path, content: Callable[[], bytes]) -> None:
    if not path.exists():
        write_private(path, content())


def _join(target: Path, own: Path, given: Path | None) -> None:
    content = own.read_bytes()
    if given is not None:
        content = content.rstrip(b"\n") + b"\n" + given.read_bytes()
    write_private(target, content)


def _demo_user(directory: DataDir, htpasswd: Path) -> str:
    """The demo user's password: the one of an earlier run while it still opens the door, else a new one."""
    known = directory.demo_password
    try:
        password = known.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        password = ""
    if not (password and users.has(htpasswd, DEMO_USER)):
        password = secrets.token_urlsafe(9)
        # 72 random bits can't be guessed whatever the hash costs; a cheap one lets the first page come sooner.
        users.put(htpasswd, DEMO_USER, password, groups=(), rounds=_RANDOM_PASSWORD_ROUNDS)
        write_private(known, password.encode("ascii") + b"\n")
    return password
