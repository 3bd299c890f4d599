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
class Tag:
    """One component's: version 0 without an offset where there never was one."""

    version: int = 0
    offset: int | None = None

    def __str__(self) -> str:
        return "0" if self.offset is None else f"{self.version}-{self.offset}"


@dataclass(frozen=True, slots=True)
class AssignmentTag:
    """A whole assignment's."""

    instructions: Tag = Tag()
    student_prompt: Tag = Tag()
    judge_rubric: Tag = Tag()

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


def tag_of(component: Component | None) -> Tag:
    """The tag of an upload or a deletion, or of nothing."""
    return Tag() if component is None else Tag(component.version, component.source.offset)


def assignment_tag_of(context: AssignmentContext | None) -> AssignmentTag:
    """The tag of an assignment, whatever of it is live."""
    if context is None:
        return AssignmentTag()
    return AssignmentTag(
        tag_of(context.instructions), tag_of(context.student_prompt), tag_of(context.judge_rubric)
    )


def parse_tag(text: str) -> Tag:
    """A component's tag from its text. Raises Malformed."""
    found = TAG.fullmatch(text)
    if found is None:
        raise Malformed("not a tag such as 3-41")
    version, offset = found.groups()
    return Tag() if version is None else Tag(int(version), int(offset))


def parse_assignment_tag(text: str) -> AssignmentTag:
    """An assignment's tag from its text. Raises Malformed."""
    parts = text.split(".")
    if [part[:1] for part in parts] != ["i", "p", "r"]:
        raise Malformed("not a tag such as i3-41.p2-7.r0")
    return AssignmentTag(*(parse_tag(part[1:]) for part in parts))
