"""Ed25519 keys: the private one signs seals, the public one beside it proves whose they are."""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from schemas.errors import CJStreamError, Misconfigured

SigningKey = Ed25519PrivateKey


def make_keys(out: Path) -> tuple[Path, bytes]:
    """A new pair: the private key goes to a new file that its owner alone may read, the public one to FILE.pub.

    Gives the public file and key. Raises CJStreamError where a file is there, or cannot be made.
    """
    key, beside = Ed25519PrivateKey.generate(), out.with_name(f"{out.name}.pub")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if beside.exists():
        raise CJStreamError(f"{beside} is there already")
    _make(out, private, 0o600)
    _make(beside, public, 0o644)
    return beside, public_bytes(key)


def _make(path: Path, content: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError as fault:
        raise CJStreamError(f"{path} is there already") from fault
    except OSError as fault:
        raise CJStreamError(f"cannot write {path}: {fault.strerror}") from fault


def signing_key(path: Path) -> SigningKey:
    """The private key of a file. Raises Misconfigured."""
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_private_key(_read(path), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise Misconfigured(f"{path}: not a private Ed25519 key; `cjstream audit seal-key` makes one")


def public_key(path: Path) -> bytes:
    """The public key of a file. Raises Misconfigured."""
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = load_pem_public_key(_read(path))
        if isinstance(key, Ed25519PublicKey):
            return key.public_bytes_raw()
    raise Misconfigured(f"{path}: not a public Ed25519 key: the FILE.pub beside the private one")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise Misconfigured(f"{path}: {fault.strerror}") from fault


def public_bytes(key: SigningKey) -> bytes:
    """The 32 bytes of the public key."""
    return key.public_key().public_bytes_raw()


def fingerprint(public: bytes) -> str:
    """A public key's name: the sha256 of its 32 bytes."""
    return sha256(public).hexdigest()


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key of this public one signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
