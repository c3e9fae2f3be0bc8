"""Keys that sign tokens: PEM to keys, each with its one algorithm, its id, and its JSON Web Key.

Only the keys; ``serviceaccount`` makes and checks tokens with them. Accepted are RSA from 2048 bits on (RS256) and the
NIST curves P-256, P-384 and P-521 (ES256, ES384, ES512), as upstream (``pkg/serviceaccount/jwt.go``).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_CURVES: Final = {"secp256r1": ("ES256", "P-256"), "secp384r1": ("ES384", "P-384"), "secp521r1": ("ES512", "P-521")}
_RSA_BITS: Final = 2048
_PEM_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)


class InvalidKeyError(ValueError):
    """Not a key that can be used; the message says why and holds nothing of the key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key, the one algorithm that it verifies, and its id: base64url(SHA-256(DER SubjectPublicKeyInfo))."""

    key: _PublicKey
    algorithm: str
    kid: str

    def jwk(self) -> dict[str, Any]:
        """The key as RFC 7517 writes it."""
        numbers = self.key.public_numbers()
        common = {"kid": self.kid, "alg": self.algorithm}
        if isinstance(numbers, rsa.RSAPublicNumbers):
            return {"use": "sig", "kty": "RSA", **common, "n": _number(numbers.n), "e": _number(numbers.e)}
        # The coordinates are as long as the curve's field, leading zeros included (RFC 7518 §6.2.1.2).
        size = (numbers.curve.key_size + 7) // 8
        point = {"x": _encoded(numbers.x.to_bytes(size)), "y": _encoded(numbers.y.to_bytes(size))}
        return {"use": "sig", "kty": "EC", **common, "crv": _CURVES[numbers.curve.name][1], **point}


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key with its public half."""

    key: _PrivateKey
    public: PublicKey


def load_private_key(pem: bytes | str) -> PrivateKey:
    """The one private key of a PEM text, unencrypted. Raises InvalidKeyError."""
    try:
        key = serialization.load_pem_private_key(_bytes(pem), None)
    except (ValueError, TypeError):
        raise InvalidKeyError("not an unencrypted private key in PEM format") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise InvalidKeyError("neither an RSA nor an EC key")
    return PrivateKey(key, _public(key.public_key()))


def load_public_keys(pem: bytes | str) -> list[PublicKey]:
    """Every key of a PEM text; of certificates and private keys, the public half. Raises InvalidKeyError."""
    keys = [_block(found[1], found[0]) for found in _PEM_BLOCK.finditer(_bytes(pem)) if found[1] != b"EC PARAMETERS"]
    if not keys:
        raise InvalidKeyError("no key in PEM format")
    return keys


def _block(label: bytes, block: bytes) -> PublicKey:
    if label.endswith(b"PRIVATE KEY"):
        return load_private_key(block).public
    try:
        if label == b"CERTIFICATE":
            return _public(x509.load_pem_x509_certificate(block).public_key())
        return _public(serialization.load_pem_public_key(block))
    except InvalidKeyError:
        raise
    except ValueError:
        raise InvalidKeyError("not a public key in PEM format") from None


def _public(key: object) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS:
            raise InvalidKeyError(f"an RSA key of fewer than {_RSA_BITS} bits")
        return PublicKey(key, "RS256", _key_id(key))
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return PublicKey(key, _CURVES[key.curve.name][0], _key_id(key))
    raise InvalidKeyError("neither an RSA key nor one on the curves P-256, P-384 and P-521")


def _key_id(key: _PublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _encoded(hashlib.sha256(der).digest())


def _number(value: int) -> str:
    return _encoded(value.to_bytes((value.bit_length() + 7) // 8))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(pem: bytes | str) -> bytes:
    return pem.encode() if isinstance(pem, str) else pem
