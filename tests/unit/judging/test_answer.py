"""A judge's answer: only the winner counts, and nothing but a winner is one."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.judging.judges.answer import Answer, read_answer


def test_an_answer_with_every_field() -> None:
    text = b'{"winner": "B", "confidence": 5, "justification": "Clearer."}'
    assert read_answer(text) == Answer("second", 5, "Clearer.")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"A",
        b"null",
        b"[]",
        b'"A"',
        b"{}",
        b'{"winner": "A"',
        b'{"winner": "C"}',
        b'{"winner": "a"}',
        b'{"winner": "tie"}',
        b'{"winner": null}',
        b'{"winner": ["A"]}',
        b'{"winner": {"A": 1}}',
        b'{"winner": true}',
        b'\xff{"winner": "A"}',
    ],
)
def test_what_names_no_winner_is_no_answer(text: bytes) -> None:
    assert read_answer(text) is None


@pytest.mark.parametrize("confidence", [None, 0, 6, -1, 3.0, "3", True, [3]])
def test_an_unusable_confidence_is_no_reason_to_refuse_the_winner(confidence: object) -> None:
    text = orjson.dumps({"winner": "A", "confidence": confidence, "justification": 7})
    assert read_answer(text) == Answer("first", None, None)


def test_a_long_justification_is_cut_off() -> None:
    answer = read_answer(orjson.dumps({"winner": "A", "justification": "å" * 301}))
    assert answer == Answer("first", None, "å" * 300)


@given(st.binary() | st.text().map(str.encode))
def test_no_text_raises(text: bytes) -> None:
    assert read_answer(text) is None or b"winner" in text
