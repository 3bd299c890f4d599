"""The log as the admin API sees it: reads at its end, writes through fenced writers, own writes read."""

from collections.abc import Mapping
from dataclasses import dataclass

from processors.resolve import Policy
from processors.settings import Settings
from schemas.events import AssignmentContext, Coordinates
from tables.changes import Change, Decision, Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The context of one scope at the log's end; None where nothing was ever uploaded."""

    context: AssignmentContext | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of the scopes whose instructions live, newest first, and how many there are in all."""

    items: tuple[AssignmentContext, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a write came to.

    context is the scope's after it; positions are those of the events appended, or, where nothing was, of the
    components that are as wanted already. folded: the own replica has them. append_s and fold_wait_s say how long
    the writer and the fold took.
    """

    decision: Decision
    context: AssignmentContext | None
    folded: bool
    positions: tuple[Coordinates, ...]
    append_s: float
    fold_wait_s: float


class AdminLog:
    """Reads and writes of the upload log for one API process."""

    settings: Settings
    policy: Policy

    async def start(self) -> None:
        """Begin to follow the log; returns at once, `ready` tells how far it is."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Refuse what waits, end what is under way, let go of everything."""
        raise NotImplementedError

    def ready(self) -> Mapping[str, bool]:
        """`replica`: it has reached the log's end as it was at start. `kafka`: it answered within 30 s."""
        raise NotImplementedError

    @property
    def fenced(self) -> int:
        """How often another instance has fenced a writer of this one."""
        raise NotImplementedError

    async def read(self, scope_key: str) -> Reading:
        """One scope at the log's end. Raises ReplicaBehind or Unreachable."""
        raise NotImplementedError

    async def page(self, *, page: int, page_size: int, grade_scale: str | None) -> Page:
        """A page, from 1, of the scopes with live instructions. Raises ReplicaBehind or Unreachable."""
        raise NotImplementedError

    async def check(self, change: Change) -> None:
        """Raise the Refusal that the change would meet now; ReplicaBehind or Unreachable."""
        raise NotImplementedError

    async def write(self, change: Change, writing: Writing) -> Written:
        """Make the change at the log's end.

        Raises a Refusal; ReplicaBehind, Unreachable or WriterContended where nothing was appended; OutcomeUnknown.
        """
        raise NotImplementedError
