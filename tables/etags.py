"""Tags: which state of a component, or of a whole assignment, somebody has seen. Pure.

A component's is version and offset, `3-41`, and `0` where there never was one; an assignment's are the three,
`i3-41.p2-7.r0`. Tags are compared by offset: a producer may misnumber, the log does not.
"""

import re
from dataclasses import dataclass

from schemas.errors import Malformed
from schemas.events import AssignmentContext, Component

TAG = re.compile(r"0|([1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")
ANY = "*"


@dataclass(frozen=True, slots=True)
class ETag:
    """One component's: version 0 without an offset where there never was one."""

    version: int = 0
    offset: int | None = None

    def __str__(self) -> str:
        return "0" if self.offset is None else f"{self.version}-{self.offset}"


@dataclass(frozen=True, slots=True)
class AssignmentETag:
    """A whole assignment's."""

    instructions: ETag = ETag()
    student_prompt: ETag = ETag()
    judge_rubric: ETag = ETag()

    def __str__(self) -> str:
        return f"i{self.instructions}.p{self.student_prompt}.r{self.judge_rubric}"

    @property
    def offsets(self) -> tuple[int | None, int | None, int | None]:
        """What it is compared by."""
        return (self.instructions.offset, self.student_prompt.offset, self.judge_rubric.offset)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a change to be made: the entity tags of If-Match and If-None-Match, without quotes.

    if_match is `("*",)` for any live state. required: a change without a condition is refused.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match_any: bool = False
    required: bool = False

    @property
    def is_given(self) -> bool:
        """Whether anything is demanded."""
        return self.if_match is not None or self.if_none_match_any

    def __str__(self) -> str:
        if self.if_match is not None:
            return ", ".join(self.if_match)
        return "nothing live" if self.if_none_match_any else "anything"


def etag_of(component: Component | None) -> ETag:
    """The tag of an upload or a deletion, or of nothing."""
    return ETag() if component is None else ETag(component.version, component.source.offset)


def assignment_etag_of(context: AssignmentContext | None) -> AssignmentETag:
    """The tag of an assignment, whatever of it is live."""
    if context is None:
        return AssignmentETag()
    return AssignmentETag(
        etag_of(context.instructions),
        etag_of(context.student_prompt),
        etag_of(context.judge_rubric),
    )


def parse_etag(text: str) -> ETag:
    """A component's tag from its text. Raises Malformed."""
    found = TAG.fullmatch(text)
    if found is None:
        raise Malformed("not a tag such as 3-41")
    version, offset = found.groups()
    return ETag() if version is None else ETag(int(version), int(offset))


def parse_assignment_etag(text: str) -> AssignmentETag:
    """An assignment's tag from its text. Raises Malformed."""
    parts = text.split(".")
    if [part[:1] for part in parts] != ["i", "p", "r"]:
        raise Malformed("not a tag such as i3-41.p2-7.r0")
    return AssignmentETag(*(parse_etag(part[1:]) for part in parts))
