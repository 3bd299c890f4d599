"""A seal as a file: JSON lines, read and written one line at a time.

  header      format, version, cluster, prefix, time, public key, digest of the previous seal, and the sealed ranges
  block       of the first range (seal_blocks.py); and so on
  range end   the number of records in the range, and the Merkle root over them; then the next range's blocks
  signature   sha256 of every byte before this line, and an Ed25519 signature over it

The digest identifies the seal: the next seal of a chain contains it.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import orjson

from schemas.coordinates import Partition
from schemas.errors import CJStreamError, Discrepancy, Misconfigured
from tools.audit.seal.merkle import root_of
from tools.audit.seal.seal_blocks import Block, block_from, document_of
from tools.audit.seal.signing_key import SigningKey, fingerprint, is_signed

FORMAT, VERSION = "cjstream-seal", 1
MAX_LINE_BYTES = 16 * 1024 * 1024
SIGNED = b"cjstream-seal-1\0"  # precedes the digest, so that the signature fits nothing but a seal


@dataclass(frozen=True, slots=True)
class SealedRange:
    """The records of one partition with an offset in [start, end)."""

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int

    @property
    def topic_partition(self) -> Partition:
        """The partition with its topic."""
        return Partition(self.topic, self.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealHeader:
    """The header of a seal; `after` is the digest of the previous seal, `key` the signer's public key."""

    cluster_id: str
    topic_prefix: str
    sealed_at_ms: int
    after: str | None
    key: bytes
    ranges: tuple[SealedRange, ...]


@dataclass(frozen=True, slots=True)
class RangeRoot:
    """The number of records in a range, and the Merkle root over them."""

    records: int
    root: bytes


class Seal:
    """A seal with a valid signature."""

    def __init__(self, file: BinaryIO, header: SealHeader, digest: str) -> None:
        self._file = file
        self.header = header
        self.digest = digest

    def contents(self) -> Iterator[tuple[SealedRange, Iterator[Block]]]:
        """Every range with its blocks, once and in order; read a range's blocks before taking the next range."""
        self._file.seek(0)
        self._file.readline()
        for sealed in self.header.ranges:
            yield sealed, self._blocks(sealed)

    def _blocks(self, sealed: SealedRange) -> Iterator[Block]:
        records, roots = 0, list[bytes]()
        while "leaves" in (fields := _parsed(self._file.readline())):
            block = block_from(fields)
            records += len(block.records)
            roots.append(block.root)
            yield block
        if (fields.get("records"), fields.get("root")) != (records, root_of(roots).hex()):
            raise Discrepancy(f"the seal contradicts itself at {sealed.topic}/{sealed.partition}")


def write_seal(
    path: Path,
    header: SealHeader,
    key: SigningKey,
    contents: Iterable[tuple[SealedRange, Iterable[Block]]],
) -> tuple[str, list[RangeRoot]]:
    """Write a new seal, completely or not at all; returns its digest and the root of each range.

    Raises CJStreamError if the file exists already or cannot be written.
    """
    temporary = path.parent / f".{uuid4().hex}.tmp"
    try:
        if path.exists():
            raise CJStreamError(f"{path} exists already")
        with temporary.open("xb") as file:
            digest, roots = _write(file, header, key, contents)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError as fault:
        raise CJStreamError(f"cannot write {path}: {fault.strerror}") from fault
    finally:
        temporary.unlink(missing_ok=True)
    return digest, roots


def _write(
    file: BinaryIO,
    header: SealHeader,
    key: SigningKey,
    contents: Iterable[tuple[SealedRange, Iterable[Block]]],
) -> tuple[str, list[RangeRoot]]:
    hashed, roots = sha256(), list[RangeRoot]()

    def write(document: Mapping[str, Any]) -> None:
        line = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        hashed.update(line)
        file.write(line)

    write(_document_of(header))
    for sealed, blocks in contents:
        records, block_roots = 0, list[bytes]()
        for block in blocks:
            write(document_of(block))
            records += len(block.records)
            block_roots.append(block.root)
        roots.append(RangeRoot(records, root_of(block_roots)))
        partition = {"topic": sealed.topic, "partition": sealed.partition}
        write({**partition, "records": records, "root": roots[-1].root.hex()})
    file.write(_signature_line(hashed.digest(), key.sign(SIGNED + hashed.digest())))
    return hashed.hexdigest(), roots


def _signature_line(digest: bytes, signature: bytes) -> bytes:
    fields = {"digest": digest.hex(), "signature": b64encode(signature).decode()}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _document_of(header: SealHeader) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        **asdict(header),
        "key": b64encode(header.key).decode(),
    }


@contextmanager
def open_seal(path: Path, trusted: bytes | None = None) -> Iterator[Seal]:
    """A seal whose signature was checked with the trusted public key, or without one with the seal's own key.

    Raises Misconfigured for a file that is not a seal of a known version, Discrepancy for a seal that was altered or
    that another key signed.
    """
    try:
        file = path.open("rb")
    except OSError as fault:
        raise Misconfigured(f"{path}: {fault.strerror}") from fault
    with file:
        header = _header(path, file.readline(MAX_LINE_BYTES))
        yield Seal(file, header, _verified_digest(path, file, header, trusted))


def _header(path: Path, line: bytes) -> SealHeader:
    fields = _parsed(line)
    if fields.get("format") != FORMAT:
        raise Misconfigured(f"{path}: not a seal")
    if fields.get("version") != VERSION:
        version = fields.get("version")
        raise Misconfigured(f"{path}: a seal of version {version}; only {VERSION} is supported")
    try:
        ranges = tuple(SealedRange(**sealed) for sealed in fields["ranges"])
        return SealHeader(
            cluster_id=fields["cluster_id"],
            topic_prefix=fields["topic_prefix"],
            sealed_at_ms=fields["sealed_at_ms"],
            after=fields["after"],
            key=b64decode(fields["key"]),
            ranges=ranges,
        )
    except (LookupError, TypeError, ValueError) as fault:
        raise Misconfigured(f"{path}: the header is not that of a seal") from fault


def _verified_digest(path: Path, file: BinaryIO, header: SealHeader, trusted: bytes | None) -> str:
    """The seal's digest, after its signature was checked."""
    hashed, line = sha256(), b""
    file.seek(0)
    while following := file.readline(MAX_LINE_BYTES):
        hashed.update(line)
        line = following
    key = header.key if trusted is None else trusted
    if key != header.key:
        theirs, ours = fingerprint(header.key), fingerprint(key)
        raise Discrepancy(f"{path}: the seal was signed by another key: {theirs}, not {ours}")
    signature = _signature(line)
    as_written = line == _signature_line(hashed.digest(), signature)
    if not as_written or not is_signed(key, signature, SIGNED + hashed.digest()):
        raise Discrepancy(f"{path}: the seal was altered or cut off: its signature is invalid")
    return hashed.hexdigest()


def _signature(line: bytes) -> bytes:
    try:
        return b64decode(str(_parsed(line).get("signature", "")))
    except ValueError:
        return b""


def _parsed(line: bytes) -> dict[str, Any]:
    """The JSON object in a line; empty if the line is not a JSON object."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
