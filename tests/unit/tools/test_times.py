"""Times for people and for JSON: any 64 bits that a record carries as a time have a form."""

import pytest

from tools.audit_json import instant
from tools.times import time_of


@pytest.mark.parametrize(
    ("ms", "second"),
    [
        (-(2**63), "0001-01-01T00:00:00"),
        (-1, "1969-12-31T23:59:59"),
        (0, "1970-01-01T00:00:00"),
        (1_700_000_000_123, "2023-11-14T22:13:20"),
        (2**63 - 1, "9999-12-31T23:59:59"),
    ],
)
def test_any_time_has_a_form(ms: int, second: str) -> None:
    assert time_of(ms) == f"{second}Z"
    assert instant(ms).startswith(f"{second}.")
