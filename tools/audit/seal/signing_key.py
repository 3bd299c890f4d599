"""Ed25519 keys: the private key signs seals, the public key in the file next to it proves who signed them."""

import os
from collections.abc import Callable
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
    """Create a pair of keys: the private key in a new file that only its owner may read, the public key in FILE.pub.

    Returns the public key's file and bytes. Raises CJStreamError if a file exists already or cannot be created.
    """
    key, public_file = Ed25519PrivateKey.generate(), out.with_name(f"{out.name}.pub")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if public_file.exists():
        raise CJStreamError(f"{public_file} exists already")
    _create(out, private, 0o600)
    _create(public_file, public, 0o644)
    return public_file, public_bytes(key)


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError as fault:
        raise CJStreamError(f"{path} exists already") from fault
    except OSError as fault:
        raise CJStreamError(f"cannot write {path}: {fault.strerror}") from fault


def signing_key(path: Path) -> SigningKey:
    """The private key in a file. Raises Misconfigured."""
    key = _loaded(path, lambda content: load_pem_private_key(content, None))
    if not isinstance(key, Ed25519PrivateKey):
        advice = "create one with `cjstream audit seal-key`"
        raise Misconfigured(f"{path}: not a private Ed25519 key; {advice}")
    return key


def public_key(path: Path) -> bytes:
    """The public key in a file. Raises Misconfigured."""
    key = _loaded(path, load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        advice = "use the FILE.pub next to the private key"
        raise Misconfigured(f"{path}: not a public Ed25519 key: {advice}")
    return key.public_bytes_raw()


def _loaded(path: Path, load: Callable[[bytes], object]) -> object:
    """The key in a file; None if there is none. Raises Misconfigured if the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise Misconfigured(f"{path}: {fault.strerror}") from fault
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        return load(content)
    return None


def public_bytes(key: SigningKey) -> bytes:
    """The 32 bytes of the public key of this private key."""
    return key.public_key().public_bytes_raw()


def fingerprint(public: bytes) -> str:
    """The fingerprint of a public key: the sha256 of its 32 bytes, hex."""
    return sha256(public).hexdigest()


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the private key of this public key signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
