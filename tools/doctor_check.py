"""One check of `cjstream doctor`."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.errors import CJStreamError


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; detail says what was found, and what to do if it is not ok."""

    name: str
    ok: bool
    detail: str


def failed_or(name: str, check: Callable[[], Check]) -> Check:
    """The check; a failed one if it could not be made."""
    try:
        return check()
    except CJStreamError as fault:
        return Check(name, False, str(fault))
