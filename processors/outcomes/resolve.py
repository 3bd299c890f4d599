"""Resolves a valid request: pure functions of the request, its context and the policy."""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from processors.policy import Policy
from tables.context import Roles, is_live

C = TypeVar("C", bound=Roles)


class RequestFields(Protocol):
    """The fields of a request that resolution reads."""

    @property
    def assignment_id(self) -> str | None: ...
    @property
    def course_code(self) -> str: ...
    @property
    def student_prompt_ref(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Prepared(Generic[C]):
    """The batch is prepared with this context; source is assignment, course or guest."""

    source: str
    context: C | None


@dataclass(frozen=True, slots=True)
class Unresolved(Generic[C]):
    """The batch is not prepared: these roles are missing at scope_key. may_wait: the request may be parked."""

    scope_key: str
    missing: tuple[str, ...]
    context: C | None
    may_wait: bool = False


def scope_key_for(request: RequestFields) -> str:
    """The key of the scope whose context a request uses: its assignment, or else its course."""
    if request.assignment_id is not None:
        return f"assignment:{request.assignment_id}"
    return f"course:{request.course_code}"


def resolve(
    request: RequestFields, context: C | None, policy: Policy
) -> Prepared[C] | Unresolved[C]:
    """The resolution of a request, given the context of its scope; the first rule that matches wins."""
    scope_key = scope_key_for(request)
    if request.assignment_id is not None:
        brings_prompt = request.student_prompt_ref is not None
        missing = policy.missing_from(context, brings_prompt=brings_prompt)
        if missing:
            return Unresolved(scope_key, missing, context, may_wait=True)
        return Prepared("assignment", context)
    if is_live(context, "instructions"):
        return Prepared("course", context)
    if policy.guests_allowed:
        return Prepared("guest", None)
    return Unresolved(scope_key, ("instructions",), context)
