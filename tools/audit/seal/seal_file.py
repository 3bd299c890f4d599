"""A seal as a file: JSON lines, read and written a line at a time.

  header      format, version, cluster, prefix, time, public key, the seal before it, and the ranges that it covers
  block       of the first range (seal_blocks.py); and so on
  range's end how many records it has, and the Merkle root over them; then the next range's blocks
  signature   sha256 of every byte before this line, and an Ed25519 signature over it

The digest is the seal's name: the next seal of a chain tells it.
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

from schemas.errors import CJStreamError, Discrepancy, Misconfigured
from tools.audit.seal.merkle import root_of
from tools.audit.seal.seal_blocks import Block, block_from, document_of
from tools.audit.seal.signing_key import SigningKey, fingerprint, is_signed

FORMAT, VERSION = "cjstream-seal", 1
LONGEST_LINE = 16 * 1024 * 1024
SIGNED = b"cjstream-seal-1\0"  # before the digest: a signature that is meant for nothing else


@dataclass(frozen=True, slots=True)
class SealedRange:
    """The records of one partition from start on, up to before end."""

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealHeader:
    """What a seal says of itself; after is the digest of the seal before it, key its public key."""

    cluster_id: str
    topic_prefix: str
    sealed_at_ms: int
    after: str | None
    key: bytes
    ranges: tuple[SealedRange, ...]


@dataclass(frozen=True, slots=True)
class RangeRoot:
    """What a range came to."""

    records: int
    root: bytes


class Seal:
    """A seal whose signature was found to be good."""

    def __init__(self, file: BinaryIO, header: SealHeader, digest: str) -> None:
        self._file = file
        self.header = header
        self.digest = digest

    def contents(self) -> Iterator[tuple[SealedRange, Iterator[Block]]]:
        """Every range with its blocks, once and in order: a range's blocks are to be taken before the next range."""
        self._file.seek(0)
        self._file.readline()
        for one in self.header.ranges:
            yield one, self._blocks(one)

    def _blocks(self, one: SealedRange) -> Iterator[Block]:
        records, roots = 0, list[bytes]()
        while "leaves" in (told := _parsed(self._file.readline())):
            block = block_from(told)
            records += len(block.records)
            roots.append(block.root)
            yield block
        if (told.get("records"), told.get("root")) != (records, root_of(roots).hex()):
            raise Discrepancy(f"the seal contradicts itself at {one.topic}/{one.partition}")


def write_seal(
    path: Path,
    header: SealHeader,
    key: SigningKey,
    contents: Iterable[tuple[SealedRange, Iterable[Block]]],
) -> tuple[str, list[RangeRoot]]:
    """Write a new seal, whole or not at all; gives its digest and what each range came to.

    Raises CJStreamError where the file is there, or cannot be written.
    """
    aside = path.parent / f".{uuid4().hex}.tmp"
    try:
        if path.exists():
            raise CJStreamError(f"{path} is there already")
        with aside.open("xb") as file:
            digest, roots = _written(file, header, key, contents)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError as fault:
        raise CJStreamError(f"cannot write {path}: {fault.strerror}") from fault
    finally:
        aside.unlink(missing_ok=True)
    return digest, roots


def _written(
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
    for one, blocks in contents:
        records, of_blocks = 0, list[bytes]()
        for block in blocks:
            write(document_of(block))
            records += len(block.records)
            of_blocks.append(block.root)
        roots.append(RangeRoot(records, root_of(of_blocks)))
        about = {"topic": one.topic, "partition": one.partition}
        write({**about, "records": records, "root": roots[-1].root.hex()})
    file.write(_signature_line(hashed.digest(), key.sign(SIGNED + hashed.digest())))
    return hashed.hexdigest(), roots


def _signature_line(digest: bytes, signature: bytes) -> bytes:
    told = {"digest": digest.hex(), "signature": b64encode(signature).decode()}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def _document_of(header: SealHeader) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        **asdict(header),
        "key": b64encode(header.key).decode(),
    }


@contextmanager
def open_seal(path: Path, trusted: bytes | None = None) -> Iterator[Seal]:
    """A seal, its signature held against the trusted public key, or else against the one that it names itself.

    Raises Misconfigured for what is no seal of a version known here, Discrepancy for one that was altered or that
    another key signed.
    """
    try:
        file = path.open("rb")
    except OSError as fault:
        raise Misconfigured(f"{path}: {fault.strerror}") from fault
    with file:
        header = _header(path, file.readline(LONGEST_LINE))
        yield Seal(file, header, _refuse_altered(path, file, header, trusted))


def _header(path: Path, line: bytes) -> SealHeader:
    told = _parsed(line)
    if told.get("format") != FORMAT:
        raise Misconfigured(f"{path}: not a seal")
    if told.get("version") != VERSION:
        raise Misconfigured(f"{path}: a seal of version {told.get('version')}, known is {VERSION}")
    try:
        ranges = tuple(SealedRange(**one) for one in told["ranges"])
        return SealHeader(
            cluster_id=told["cluster_id"],
            topic_prefix=told["topic_prefix"],
            sealed_at_ms=told["sealed_at_ms"],
            after=told["after"],
            key=b64decode(told["key"]),
            ranges=ranges,
        )
    except (LookupError, TypeError, ValueError) as fault:
        raise Misconfigured(f"{path}: not a seal's header") from fault


def _refuse_altered(path: Path, file: BinaryIO, header: SealHeader, trusted: bytes | None) -> str:
    """The seal's digest, once its signature was found to be good."""
    hashed, line = sha256(), b""
    file.seek(0)
    while following := file.readline(LONGEST_LINE):
        hashed.update(line)
        line = following
    key = header.key if trusted is None else trusted
    if key != header.key:
        theirs, ours = fingerprint(header.key), fingerprint(key)
        raise Discrepancy(f"{path}: the seal of another key: {theirs}, not {ours}")
    signature = _signature(line)
    as_written = line == _signature_line(hashed.digest(), signature)
    if not as_written or not is_signed(key, signature, SIGNED + hashed.digest()):
        raise Discrepancy(f"{path}: the seal was altered or cut off: its signature does not fit")
    return hashed.hexdigest()


def _signature(line: bytes) -> bytes:
    try:
        return b64decode(str(_parsed(line).get("signature", "")))
    except ValueError:
        return b""


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's object; empty where it is none."""
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}
