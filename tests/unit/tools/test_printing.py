"""No string from outside can write to the terminal, or end a line, when a command prints it."""

import pytest

from tools.printing import harmless, one_line, print_line, print_table
from tools.progress import say

HOSTILE = "a\x1b[2J\x9b31m\x07\rb\u202ec\u2066d\x7f\0"
BREAKS = "one\ntwo\tthree\u2028four\u2029five"


def test_control_characters_are_replaced() -> None:
    replaced = "a\ufffd[2J\ufffd31m\ufffd\ufffdb\ufffdc\ufffdd\ufffd\ufffd"
    assert harmless(HOSTILE) == one_line(HOSTILE) == replaced


def test_a_line_stays_one_line() -> None:
    assert one_line(BREAKS) == "one two three four five"
    assert harmless(BREAKS) == BREAKS


def test_ordinary_text_stays_as_it_is() -> None:
    assert one_line("Bedöm: 日本語 \U0001f393") == "Bedöm: 日本語 \U0001f393"


def test_every_way_to_print_a_line_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(HOSTILE + BREAKS)
    say(HOSTILE + BREAKS)
    print_table("Title", ("column",), [(HOSTILE,), (BREAKS,)])
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    for text in (printed.out, printed.err):
        assert not set(text) & {"\x1b", "\x9b", "\x07", "\r", "\u202e", "\u2066", "\u2028"}
