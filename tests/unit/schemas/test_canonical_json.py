"""Canonical JSON: the examples of RFC 8785, and what it cannot hold."""

import math

import pytest

from schemas.canonical_json import canonical_json, canonical_sha256
from schemas.errors import Malformed


def test_the_example_of_the_rfc() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\nA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical_json(value).hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c226e756d62657273223a"
        "5b3333333333333333332e333333333333332c31652b33302c342e352c302e3030322c31652d3237"
        "5d2c22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d"
    )


def test_members_are_sorted_by_utf_16_code_units() -> None:
    assert canonical_json({"\ufb33": 1, "😀": 2, "a": 3}) == '{"a":3,"😀":2,"\ufb33":1}'.encode()


def test_equal_values_have_equal_checksums() -> None:
    assert canonical_sha256({"a": 1, "b": 2.0}) == canonical_sha256({"b": 2, "a": 1.0})


@pytest.mark.parametrize("value", [2**53, -(2**53), math.nan, math.inf, "\ud800", {1: 2}, object()])
def test_what_json_cannot_hold_exactly_is_refused(value: object) -> None:
    with pytest.raises(Malformed, match="not canonical JSON"):
        canonical_json({"value": value})
