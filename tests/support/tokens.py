"""Tokens for tests: keys, valid claims that a test may change, and signatures made without a library."""

import base64
import hmac
import json
import time
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SECRET = "a secret of this test, 32 bytes or more"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_CURVE = ec.generate_private_key(ec.SECP384R1())
WITHOUT = object()


def public_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a valid token with these changes; WITHOUT removes a claim."""
    now = int(time.time())
    valid = {
        "sub": "anna",
        "aud": "cjstream",
        "iss": "cjstream-identity",
        "exp": now + 86_400,
        "iat": now,
        "roles": ["admin"],
    }
    return {name: value for name, value in {**valid, **changed}.items() if value is not WITHOUT}


def segment(content: object) -> str:
    encoded = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def by_hand(header: object, payload: object, secret: str = SECRET) -> str:
    """A token with any header and payload, signed with HMAC-SHA256; libraries refuse to make such tokens."""
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(secret.encode(), signed.encode(), sha256))}"


def hs256(secret: str = SECRET, **changed: Any) -> str:
    return by_hand({"alg": "HS256", "typ": "JWT"}, claims(**changed), secret)
