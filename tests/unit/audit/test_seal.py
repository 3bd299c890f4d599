"""Seals: every change of a record is found and named, and an unchanged log has no findings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.kafka.records import LogRecord
from schemas.coordinates import Coordinates
from schemas.errors import CJStreamError, Discrepancy, Malformed, Misconfigured
from tools.audit.seal.merkle import leaf_of, root_of
from tools.audit.seal.partition_diff import Comparison, Deviation, RetentionBounds, compare
from tools.audit.seal.seal_blocks import Block, block_from, blocks_of, document_of
from tools.audit.seal.seal_file import RangeRoot, SealedRange, SealHeader, open_seal, write_seal
from tools.audit.seal.signing_key import (
    SigningKey,
    fingerprint,
    make_keys,
    public_bytes,
    public_key,
    signing_key,
)

SIZE = 4  # records per block in these tests
DAY_MS = 86_400_000
TOPIC = "t"
BYTES = st.none() | st.binary(max_size=6)
HEADERS = st.lists(st.tuples(st.text(max_size=3), BYTES), max_size=2).map(tuple)


def record(offset: int, key: bytes | None = b"k", ms: int = 0, value: bytes = b"v") -> LogRecord:
    return LogRecord(Coordinates(TOPIC, 0, offset), key, value, (), ms)


@st.composite
def logs(draw: st.DrawFn, min_size: int = 0) -> list[LogRecord]:
    """Records of one partition, with unused offsets between them, as transaction markers leave them."""
    count, offset, records = draw(st.integers(min_size, 14)), -1, list[LogRecord]()
    for _ in range(count):
        offset += draw(st.sampled_from([1, 1, 1, 2, 3]))
        key, value, headers = draw(BYTES), draw(BYTES), draw(HEADERS)
        at = Coordinates(TOPIC, 0, offset)
        records.append(LogRecord(at, key, value, headers, draw(st.integers(0, 2**40))))
    return records


def end_of(records: Sequence[LogRecord]) -> int:
    return records[-1].at.offset + 1 if records else 0


def blocks(records: Sequence[LogRecord]) -> list[Block]:
    return list(blocks_of(records, 0, keys=True, size=SIZE))


def compared(
    sealed: Sequence[LogRecord],
    now: Sequence[LogRecord],
    later: Sequence[LogRecord] = (),
    **bounds: int,
) -> Comparison:
    """The comparison of the current records with a seal of the earlier ones."""
    end = bounds.pop("end", max(end_of(sealed), end_of(later)))
    return compare(
        blocks(sealed), now, later, RetentionBounds(first=bounds.pop("first", 0), end=end, **bounds)
    )


@given(logs(), logs())
def test_equal_leaves_mean_equal_records(some: list[LogRecord], others: list[LogRecord]) -> None:
    by_leaf = {leaf_of(each): each for each in (*some, *others)}
    assert all(by_leaf[leaf_of(each)] == each for each in (*some, *others))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"key": b"ab", "value": b"c"}, {"key": b"a", "value": b"bc"}),
        ({"key": None}, {"key": b""}),
        ({"value": None}, {"value": b""}),
        ({"headers": (("a", b"bc"),)}, {"headers": (("ab", b"c"),)}),
        ({"headers": (("a", None),)}, {"headers": (("a", b""),)}),
        ({"headers": (("a", b""), ("b", b""))}, {"headers": (("a", b"b"),)}),
        ({"headers": (("a", b"x"),)}, {"headers": (("a", b"y"),)}),
        ({"headers": (("a", b"x"),)}, {"headers": (("b", b"x"),)}),
        ({"appended_at_ms": 1}, {"appended_at_ms": 2}),
        ({"at": Coordinates(TOPIC, 0, 1)}, {"at": Coordinates(TOPIC, 0, 2)}),
    ],
)
def test_different_records_have_different_leaves(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert leaf_of(replace(record(5), **one)) != leaf_of(replace(record(5), **other))  # type: ignore[arg-type]


def rfc_6962(leaves: Sequence[bytes]) -> bytes:
    """The tree hash as the RFC defines it."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else sha256().digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + rfc_6962(leaves[:split]) + rfc_6962(leaves[split:])).digest()


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40))
def test_the_root_over_leaves_or_over_block_roots_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    parts = [leaves[start : start + SIZE] for start in range(0, len(leaves), SIZE)]
    assert root_of(leaves) == rfc_6962(leaves) == root_of([root_of(part) for part in parts])


@given(logs())
def test_blocks_are_the_same_after_a_round_trip_through_json(records: list[LogRecord]) -> None:
    assert [block_from(document_of(block)) for block in blocks(records)] == blocks(records)
    unkeyed = list(blocks_of(records, 0, keys=False, size=SIZE))
    assert [block_from(document_of(block)) for block in unkeyed] == unkeyed


@pytest.mark.parametrize(
    "damage", [{"leaves": "!"}, {"offsets": "AAAA"}, {"keys": "AA=="}, {"root": "z"}, {"to": None}]
)
def test_an_invalid_block_is_refused(damage: dict[str, object]) -> None:
    (block,) = blocks([record(0)])
    with pytest.raises(Malformed):
        block_from({**document_of(block), **damage})


# Every change of a log is named


@given(logs())
def test_an_unchanged_log_is_intact(records: list[LogRecord]) -> None:
    found = compared(records, records)
    assert found == Comparison(
        found.bounds, intact=len(records), compacted=0, expired=0, findings=Counter(), first=None
    )


ALTERED = {
    "key": lambda sealed: replace(sealed, key=(sealed.key or b"") + b"x"),
    "value": lambda sealed: replace(sealed, value=(sealed.value or b"") + b"x"),
    "no value": lambda sealed: replace(sealed, value=b"" if sealed.value is None else None),
    "headers": lambda sealed: replace(sealed, headers=(*sealed.headers, ("x", None))),
    "time": lambda sealed: replace(sealed, appended_at_ms=sealed.appended_at_ms + 1),
}


@pytest.mark.parametrize("what", ALTERED)
@given(st.data(), logs(min_size=1))
def test_an_altered_record_is_named(
    what: str, data: st.DataObject, records: list[LogRecord]
) -> None:
    which = data.draw(st.integers(0, len(records) - 1))
    now = [ALTERED[what](each) if n == which else each for n, each in enumerate(records)]
    found = compared(records, now)
    assert found.first == Deviation(records[which].at.offset, "altered")
    assert (found.findings, found.intact) == ({"altered": 1}, len(records) - 1)


@given(st.data(), logs(min_size=1))
def test_a_removed_record_is_named(data: st.DataObject, records: list[LogRecord]) -> None:
    gone = data.draw(st.sampled_from(records))
    found = compared(records, [each for each in records if each is not gone])
    assert found.first == Deviation(gone.at.offset, "removed")
    assert (found.findings, found.intact) == ({"removed": 1}, len(records) - 1)


@given(st.data(), logs())
def test_an_added_record_is_named(data: st.DataObject, records: list[LogRecord]) -> None:
    free = {*range(end_of(records) + 2)} - {each.at.offset for each in records}
    offset = data.draw(st.sampled_from(sorted(free)))
    now = sorted([*records, record(offset)], key=lambda each: each.at.offset)
    found = compared(records, now)
    assert found.first == Deviation(offset, "added")
    assert (found.findings, found.intact) == ({"added": 1}, len(records))


@given(st.data(), logs(min_size=1))
def test_the_first_record_that_was_cut_off_is_named(
    data: st.DataObject, records: list[LogRecord]
) -> None:
    which = data.draw(st.integers(0, len(records) - 1))
    found = compared(records, records[:which], end=end_of(records[:which]))
    assert found.first == Deviation(records[which].at.offset, "cut off")
    assert (found.findings, found.intact) == ({"cut off": len(records) - which}, which)


def test_of_several_changes_the_first_is_named_and_all_are_counted() -> None:
    sealed = [record(offset) for offset in range(12)]
    now = [each for each in sealed if each.at.offset not in (6, 7, 11)]
    now[-1] = replace(now[-1], value=b"other")
    found = compared(sealed, now, end=11)
    assert found.first == Deviation(6, "removed")
    assert found.findings == {"removed": 2, "altered": 1, "cut off": 1}
    assert found.intact == 8


def test_if_only_the_root_differs_the_block_is_named() -> None:
    sealed = [record(offset) for offset in range(6)]
    first, second = blocks(sealed)
    found = compare(
        [first, replace(second, root=bytes(32))], sealed, (), RetentionBounds(first=0, end=6)
    )
    assert found.first == Deviation(4, "altered", until=6)


# Records removed by the topic's own settings are not findings

HISTORY = [
    record(0, b"a", 10),
    record(1, b"b", 11),
    record(2, b"a", 12),
    record(3, b"b", 13),
    record(4, b"a", 14),
]


def without(*offsets: int) -> list[LogRecord]:
    return [each for each in HISTORY if each.at.offset not in offsets]


def test_an_upload_older_than_the_horizon_may_be_compacted_if_its_key_has_a_newer_one() -> None:
    found = compared(HISTORY, without(0, 1, 2), compacted_before_ms=13)
    assert (found.compacted, found.intact, found.first) == (3, 2, None)


def test_the_newer_upload_may_come_after_the_sealed_range() -> None:
    newer = [record(9, b"c", 20), record(10, b"a", 21)]
    found = compared(HISTORY, without(0, 2, 4), newer, compacted_before_ms=15)
    assert (found.compacted, found.intact, found.first) == (3, 2, None)


def test_a_missing_upload_without_a_newer_one_of_its_key_was_removed() -> None:
    found = compared(HISTORY, without(0, 3), compacted_before_ms=15)
    assert (found.compacted, found.findings, found.first) == (
        1,
        {"removed": 1},
        Deviation(3, "removed"),
    )
    assert compared(HISTORY, without(1, 3), compacted_before_ms=15).first == Deviation(1, "removed")


def test_a_missing_upload_within_the_horizon_was_removed() -> None:
    assert compared(HISTORY, without(1), compacted_before_ms=11).first == Deviation(1, "removed")
    assert compared(HISTORY, without(1), compacted_before_ms=12).first is None


def test_a_record_altered_among_compacted_ones_is_named() -> None:
    now = [replace(each, value=b"other") if each.at.offset == 4 else each for each in without(0)]
    found = compared(HISTORY, now, compacted_before_ms=100)
    assert (found.compacted, found.first) == (1, Deviation(4, "altered"))


def test_records_past_retention_are_not_findings_but_others_are() -> None:
    gone = without(0, 1)
    assert compared(HISTORY, gone, first=2, expired_before_ms=12).expired == 2
    assert compared(HISTORY, gone, first=2, expired_before_ms=12).first is None
    assert compared(HISTORY, gone, first=2, expired_before_ms=11).first == Deviation(1, "removed")
    assert compared(HISTORY, gone, first=2).first == Deviation(0, "removed")
    assert compared(HISTORY, without(2), first=0, expired_before_ms=100).first == Deviation(
        2, "removed"
    )


# The file


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "seal.pem"
    make_keys(file)
    return file


RECORDS = [record(offset, b"k%d" % offset) for offset in range(9)]
RANGES = (SealedRange(TOPIC, "id", 0, 0, 9), SealedRange(TOPIC, "id", 1, 3, 3))


def header_of(key: SigningKey) -> SealHeader:
    return SealHeader(
        cluster_id="c",
        topic_prefix="",
        sealed_at_ms=5,
        after=None,
        key=public_bytes(key),
        ranges=RANGES,
    )


def written(path: Path, key_file: Path) -> tuple[SealHeader, str]:
    key = signing_key(key_file)
    header = header_of(key)
    digest, roots = write_seal(path, header, key, zip(RANGES, (blocks(RECORDS), []), strict=True))
    leaves = [leaf_of(each) for each in RECORDS]
    assert roots == [RangeRoot(9, rfc_6962(leaves)), RangeRoot(0, sha256().digest())]
    return header, digest


def test_a_seal_is_read_back_as_written(tmp_path: Path, key_file: Path) -> None:
    header, digest = written(tmp_path / "seal", key_file)
    public = public_key(key_file.with_name("seal.pem.pub"))
    with open_seal(tmp_path / "seal", public) as seal:
        contents = [(sealed, list(its_blocks)) for sealed, its_blocks in seal.contents()]
    assert (seal.header, seal.digest) == (header, digest)
    assert contents == [(RANGES[0], blocks(RECORDS)), (RANGES[1], [])]


def test_a_seal_with_any_altered_byte_is_refused(tmp_path: Path, key_file: Path) -> None:
    written(tmp_path / "seal", key_file)
    content = (tmp_path / "seal").read_bytes()
    altered = tmp_path / "altered"
    for index in range(0, len(content) - 1):
        flipped = bytes([content[index] ^ 1])
        altered.write_bytes(content[:index] + flipped + content[index + 1 :])
        with pytest.raises((Discrepancy, Misconfigured)), open_seal(altered):
            pass


def test_a_seal_with_missing_or_repeated_lines_is_refused(tmp_path: Path, key_file: Path) -> None:
    written(tmp_path / "seal", key_file)
    lines = (tmp_path / "seal").read_bytes().splitlines(keepends=True)
    altered = tmp_path / "altered"
    for changed in (lines[:-1], lines[:1], [*lines[:1], *lines[2:]], [*lines, lines[-1]]):
        altered.write_bytes(b"".join(changed))
        with pytest.raises(Discrepancy, match="altered or cut off"), open_seal(altered):
            pass


def test_a_seal_of_an_untrusted_key_is_refused_and_both_keys_are_named(
    tmp_path: Path, key_file: Path
) -> None:
    header, _ = written(tmp_path / "seal", key_file)
    _, stranger = make_keys(tmp_path / "other.pem")
    both = f"{fingerprint(header.key)}, not {fingerprint(stranger)}"
    with pytest.raises(Discrepancy, match=both), open_seal(tmp_path / "seal", stranger):
        pass


def test_a_seal_that_names_a_key_other_than_its_signers_is_refused(
    tmp_path: Path, key_file: Path
) -> None:
    make_keys(tmp_path / "other.pem")
    stranger, owner = signing_key(tmp_path / "other.pem"), signing_key(key_file)
    write_seal(tmp_path / "forged", header_of(owner), stranger, ())
    with pytest.raises(Discrepancy, match="signature is invalid"), open_seal(tmp_path / "forged"):
        pass


def test_a_seal_that_contradicts_itself_is_refused(tmp_path: Path, key_file: Path) -> None:
    """The signer left out a block, and signed the rest."""
    key = signing_key(key_file)
    header, _ = written(tmp_path / "seal", key_file)
    write_seal(tmp_path / "short", header, key, [(RANGES[0], blocks(RECORDS))])
    with (
        open_seal(tmp_path / "short") as seal,
        pytest.raises(Discrepancy, match="contradicts itself at t/1"),
    ):
        any(list(its_blocks) == [] for _, its_blocks in seal.contents())


@pytest.mark.parametrize(
    "content", [b"", b"no seal", b"[]", b'{"format":"cjstream-seal","version":2}', b'{"a":1}\n']
)
def test_a_file_that_is_not_a_seal_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Misconfigured), open_seal(tmp_path / "file"):
        pass


def test_a_seal_is_never_overwritten_and_a_failed_one_leaves_no_file(
    tmp_path: Path, key_file: Path
) -> None:
    written(tmp_path / "seal", key_file)
    with pytest.raises(CJStreamError, match="exists already"):
        written(tmp_path / "seal", key_file)

    def failing() -> object:
        yield (RANGES[0], blocks(RECORDS))
        raise Discrepancy("the log is gone")

    key = signing_key(key_file)
    with pytest.raises(Discrepancy):
        write_seal(tmp_path / "other", header_of(key), key, failing())  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["seal"]


def test_only_the_owner_may_read_a_private_key_and_it_is_never_overwritten(tmp_path: Path) -> None:
    public_file, public = make_keys(tmp_path / "seal.pem")
    assert (tmp_path / "seal.pem").stat().st_mode & 0o777 == 0o600
    assert public_key(public_file) == public == public_bytes(signing_key(tmp_path / "seal.pem"))
    with pytest.raises(CJStreamError, match="exists already"):
        make_keys(tmp_path / "seal.pem")
    (tmp_path / "seal.pem").unlink()
    with pytest.raises(CJStreamError, match="exists already"):
        make_keys(tmp_path / "seal.pem")
    for read in (signing_key, public_key):
        for wrong in (tmp_path / "nothing", tmp_path, Path(__file__)):
            with pytest.raises(Misconfigured):
                read(wrong)
