"""The engine in plain Python: one function of straight-line code per layout, generated from its field table. Pure.

Texts are checked together with the lengths between them: of those, each that has two bytes has one byte above 127, and
none has a byte 0. So runs of texts with no more such bytes are ASCII, and need no closer look; any others are checked
text by text.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from schemas.avro_decoder import indented
from schemas.field_limits import FORBIDDEN_IN_IDS
from tables.scan.layout import (
    FRAME_BYTES,
    STABLE,
    TWO_BYTES,
    Boolean,
    Field,
    Identifier,
    Items,
    Layout,
    Number,
    Text,
    Word,
)
from tables.scan.scanner import SLOW_PATH, FrameLayouts, Scanned

Scan = Callable[[bytes], tuple[int, ...] | None]  # to the places of the captured fields
SLOW = "return None"
SHORT = 64  # the least length that takes two bytes
STABLE_SET = "".join(f"{chr(first)}-{chr(last)}" for first, last in STABLE)
STABLE_TEXT = re.compile(f"[{STABLE_SET}]+")


class PlainEngine:
    """Scans one record after the other."""

    name = "plain"

    def scanner(self, layouts: FrameLayouts) -> "PlainScanner":
        return PlainScanner(layouts)


PLAIN_ENGINE = PlainEngine()


class PlainScanner:
    """Scans records by the functions of their layouts."""

    def __init__(self, layouts: FrameLayouts) -> None:
        self._scans = {
            frame: (index, compile_scan(layout)) for index, (frame, layout) in enumerate(layouts)
        }

    def scan(self, records: Sequence[bytes]) -> Scanned:
        indices, places = list[int](), list[tuple[int, ...]]()
        for record in records:
            index, scan = self._scans.get(record[:FRAME_BYTES], (SLOW_PATH, None))
            found = scan(record) if scan is not None else None
            indices.append(SLOW_PATH if found is None else index)
            places.append(found or ())
        return Scanned(indices, places)


@lru_cache(maxsize=100)  # a schema has several frames
def compile_scan(layout: Layout) -> Scan:
    """The function that returns the places of the captured fields of a record, or None: take the slow path."""
    compiler = _Compiler(layout)
    lines = [
        *compiler.function("scan", careful=False),
        *compiler.function("scan_with_care", careful=True),
    ]
    exec(compile("\n".join(lines), "<scan>", "exec"), compiler.names)
    scan: Scan = compiler.names["scan"]
    return scan


class _Compiler:
    """Writes the function of one layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.names: dict[str, Any] = {"is_id": is_id, "high": bytes(range(128, 256))}

    def function(self, name: str, *, careful: bool) -> Iterator[str]:
        """The lines of the function. The careful one collects each text, the other one runs of texts."""
        places = [
            f"{end}{number}" for number in range(len(self._layout.captured)) for end in ("s", "e")
        ]
        yield f"def {name}(record):"
        body = ["longs = 0", "texts = []", *(f"{place} = -1" for place in places), "try:"]
        body += indented(
            [
                f"at = {FRAME_BYTES}",
                *self._fields(careful=careful),
                "if at != len(record):",
                f"    {SLOW}",
            ]
        )
        # a text may reach beyond the end
        body += ["except IndexError:", f"    {SLOW}", *(CAREFUL_CHECK if careful else QUICK_CHECK)]
        yield from indented([*body, f"return ({''.join(f'{place}, ' for place in places)})"])

    def _fields(self, *, careful: bool) -> Iterator[str]:
        run_is_open = False
        for field in self._layout.fields:
            is_in_run = not field.is_optional and isinstance(field.value, Text | Identifier | Word)
            if run_is_open and not is_in_run:
                yield END_OF_RUN
            if is_in_run and not run_is_open and not careful:
                yield START_OF_RUN
            run_is_open = is_in_run and not careful
            lines = list(self._value(field, careful=careful))
            yield from _optional(lines) if field.is_optional else lines
        if run_is_open:
            yield END_OF_RUN

    def _text(self, maximum: int, *, needs_start: bool = True) -> list[str]:
        """Pass a text with its length."""
        short, long = f"short{maximum}", f"long{maximum}"
        self.names[short], self.names[long] = _steps(maximum)
        return [
            f"step = {short}[record[at]]",
            "if not step:",
            f"    step = {long}(record[at : at + 2])",
            "    if step is None:",
            f"        {SLOW}",
            "    longs += 1",
            *([f"start = at + 1 if step <= {SHORT} else at + 2"] if needs_start else []),
            "at += step",
        ]

    def _value(self, field: Field, *, careful: bool) -> Iterator[str]:
        number = self._layout.capture_of(field)
        has_own_run = not careful and (field.is_optional or isinstance(field.value, Items))
        match field.value:
            case Text(maximum) | Identifier(maximum) | Word(_, maximum):
                if has_own_run:
                    yield START_OF_RUN
                yield from self._text(maximum)
                if isinstance(field.value, Identifier):
                    yield from ["if not is_id(record[start:at]):", f"    {SLOW}"]
                if isinstance(field.value, Word):
                    check = f"is_word{len(self.names)}"
                    self.names[check] = lru_cache(maxsize=1024)(
                        _word_pattern(field.value).fullmatch
                    )
                    yield from [f"if not {check}(record[start:at]):", f"    {SLOW}"]
                if careful:
                    yield EACH_TEXT
                if has_own_run:
                    yield END_OF_RUN
            case Number(minimum, least, most):
                yield from _number(minimum, least, most)
            case Boolean():
                yield from ["start = at", "if record[at] > 1:", f"    {SLOW}", "at += 1"]
            case Items(minimum, maximum, texts, is_distinct):
                yield from _length("count", 2 * minimum, 2 * maximum)
                if has_own_run:
                    yield START_OF_RUN
                if is_distinct:
                    yield "firsts = set()"
                yield "for _ in range(count >> 1):"
                for column, text in enumerate(texts):
                    needs_start = careful or (is_distinct and column == 0)
                    yield from indented(self._text(text.maximum, needs_start=needs_start))
                    if careful:
                        yield from indented([EACH_TEXT])
                    if is_distinct and column == 0:
                        yield from indented(["firsts.add(record[start:at])"])
                if has_own_run:
                    yield END_OF_RUN
                if is_distinct:
                    yield from ["if len(firsts) != count >> 1:", f"    {SLOW}"]
                yield from ["if record[at] != 0:", f"    {SLOW}", "at += 1"]  # a second block
        if number is not None:
            yield f"s{number} = start; e{number} = at"


START_OF_RUN = "run = at"
END_OF_RUN = "texts.append(record[run:at])"
EACH_TEXT = "texts.append(record[start:at])"
QUICK_CHECK = [
    "text = b''.join(texts)",
    "if len(text.translate(None, high)) + longs != len(text) or 0 in text:",
    "    return scan_with_care(record)",
]
CAREFUL_CHECK = [
    "try:",
    "    if '\\0' in b' '.join(texts).decode():",  # the space keeps two texts from forming one character
    f"        {SLOW}",
    "except UnicodeDecodeError:",
    f"    {SLOW}",
]


def _optional(lines: Sequence[str]) -> list[str]:
    return [
        "branch = record[at]",
        "at += 1",
        "if branch == 2:",
        *indented(lines),
        "elif branch != 0:",
        f"    {SLOW}",
    ]


def _length(name: str, minimum: int, maximum: int) -> list[str]:
    """Read a zigzag of up to two bytes; odd is negative."""
    return [
        f"{name} = record[at]",
        f"if {name} < 128:",
        "    at += 1",
        "else:",
        f"    {name} += (record[at + 1] - 1) << 7",
        f"    if not 128 <= {name} < {TWO_BYTES}:",  # not minimal, or three bytes long
        f"        {SLOW}",
        "    at += 2",
        f"if {name} & 1 or not {minimum} <= {name} <= {maximum}:",
        f"    {SLOW}",
    ]


@lru_cache(maxsize=100)
def _steps(maximum: int) -> tuple[list[int], Callable[[bytes], int | None]]:
    """The bytes of a text with its length: by a length of one byte, or 0, and by one of two bytes, or None."""
    short, long = [0] * 256, dict[bytes, int]()
    for size in range(1, maximum + 1):
        if size < SHORT:
            short[2 * size] = 1 + size
        else:
            long[bytes((2 * size & 127 | 128, size >> 6))] = 2 + size
    return short, long.get


def _number(minimum: int, least_bytes: int, most_bytes: int) -> list[str]:
    return [
        "start = at",
        "if record[at] & 1:",  # negative
        f"    {SLOW}",
        "while record[at] > 127:",
        "    at += 1",
        "at += 1",
        f"if at - start == 1 and record[start] < {2 * minimum}:",
        f"    {SLOW}",
        f"if not {least_bytes} <= at - start <= {most_bytes}:",
        f"    {SLOW}",
        "if record[at - 1] == 0 and at - start > 1:",
        f"    {SLOW}",
    ]


@lru_cache(maxsize=20_000)
def is_id(text: bytes) -> bool:
    """Whether a text is an id in normal form, as far as `STABLE` shows it; invalid UTF-8 is none."""
    try:
        an_id = text.decode()
    except UnicodeDecodeError:
        return False
    return (
        STABLE_TEXT.fullmatch(an_id) is not None
        and an_id == an_id.strip(" ")
        and an_id not in (".", "..")
        and FORBIDDEN_IN_IDS.search(an_id) is None
    )


def _word_pattern(word: Word) -> re.Pattern[bytes]:
    first, rest = (b"[" + re.escape(bytes(sorted(one))) + b"]" for one in (word.first, word.rest))
    return re.compile(first + rest + b"{%d,%d}" % (word.minimum - 1, word.maximum - 1))
