"""The difference of two texts: both sides can be read from it, and equal words are not marked."""

from hypothesis import given
from hypothesis import strategies as st

from tools.api.console.text_diff import Row, diff_rows

TEXTS = st.lists(st.text("ab .", max_size=6), max_size=8).map("\n".join)


def side(rows: list[Row], name: str) -> dict[int, str]:
    """The lines of one side by their numbers."""
    return {
        number: "".join(piece.text for piece in pieces)
        for row in rows
        if (pieces := getattr(row, name)) is not None
        and (number := getattr(row, f"{name}_number")) is not None
    }


@given(TEXTS, TEXTS)
def test_both_sides_are_shown_as_they_are_and_every_line_that_differs_is_shown(
    left: str, right: str
) -> None:
    rows = diff_rows(left, right)
    for name, text in (("left", left), ("right", right)):
        lines = text.splitlines()
        assert all(lines[number - 1] == line for number, line in side(rows, name).items())
    assert (rows == []) == (left.splitlines() == right.splitlines())
    for row in rows:
        is_marked = any(piece.is_changed for piece in (*(row.left or ()), *(row.right or ())))
        pieces = ["".join(one.text for one in each or ()) for each in (row.left, row.right)]
        assert row.is_gap or is_marked or pieces[0] == pieces[1]


def test_only_the_words_that_changed_are_marked() -> None:
    [row] = diff_rows("Judge how clearly it is put.", "Judge how well it is put.")
    assert [piece.text for piece in row.left or () if piece.is_changed] == ["clearly"]
    assert [piece.text for piece in row.right or () if piece.is_changed] == ["well"]


def test_equal_lines_far_from_a_change_are_left_out() -> None:
    lines = [f"line {number}" for number in range(40)]
    rows = diff_rows("\n".join(lines), "\n".join(["new", *lines[1:39], "end"]))
    assert sum(row.is_gap for row in rows) == 1
    assert len(rows) == 9
