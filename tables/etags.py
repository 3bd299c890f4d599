"""Etags of components and of assignments: which state a client has seen. Pure.

A component's etag is its version and offset, `3-41`, or `0` if the role was never uploaded; an assignment's etag is
those of its three roles, `i3-41.p2-7.r0`. Etags are compared by offset, because a producer may number versions wrongly.
"""

import re
from dataclasses import dataclass

from schemas.errors import Malformed
from schemas.events import AssignmentContext, Component

ETAG = re.compile(r"0|([1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")
ANY = "*"


@dataclass(frozen=True, slots=True)
class ETag:
    """The etag of one component; version 0 and no offset if the role was never uploaded."""

    version: int = 0
    offset: int | None = None

    def __str__(self) -> str:
        return "0" if self.offset is None else f"{self.version}-{self.offset}"


@dataclass(frozen=True, slots=True)
class AssignmentETag:
    """The etag of an assignment: those of its three roles."""

    instructions: ETag = ETag()
    student_prompt: ETag = ETag()
    judge_rubric: ETag = ETag()

    def __str__(self) -> str:
        return f"i{self.instructions}.p{self.student_prompt}.r{self.judge_rubric}"

    @property
    def offsets(self) -> tuple[int | None, int | None, int | None]:
        """The offsets of the three roles; assignment etags are compared by them."""
        return (self.instructions.offset, self.student_prompt.offset, self.judge_rubric.offset)


@dataclass(frozen=True, slots=True)
class Condition:
    """The precondition of a write: the entity tags of If-Match and If-None-Match, without quotes.

    if_match is `("*",)` for any live state. If required is set, a write without a condition is refused.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match_any: bool = False
    required: bool = False

    @property
    def is_present(self) -> bool:
        """Whether the request has a condition."""
        return self.if_match is not None or self.if_none_match_any

    def __str__(self) -> str:
        if self.if_match is not None:
            return ", ".join(self.if_match)
        return "nothing live" if self.if_none_match_any else "anything"


def etag_of(component: Component | None) -> ETag:
    """The etag of an upload or a deletion; `0` if component is None."""
    return ETag() if component is None else ETag(component.version, component.source.offset)


def assignment_etag_of(context: AssignmentContext | None) -> AssignmentETag:
    """The etag of an assignment; deletions count, too."""
    if context is None:
        return AssignmentETag()
    return AssignmentETag(
        etag_of(context.instructions),
        etag_of(context.student_prompt),
        etag_of(context.judge_rubric),
    )


def parse_etag(text: str) -> ETag:
    """Parse a component's etag. Raises Malformed."""
    match = ETAG.fullmatch(text)
    if match is None:
        raise Malformed("not an etag such as 3-41")
    version, offset = match.groups()
    return ETag() if version is None else ETag(int(version), int(offset))


def parse_assignment_etag(text: str) -> AssignmentETag:
    """Parse an assignment's etag. Raises Malformed."""
    parts = text.split(".")
    if [part[:1] for part in parts] != ["i", "p", "r"]:
        raise Malformed("not an etag such as i3-41.p2-7.r0")
    return AssignmentETag(*(parse_etag(part[1:]) for part in parts))
