"""The roles that an assignment must have before its requests are prepared, and how long a request waits."""

from dataclasses import dataclass

from tables.context import Roles, is_live


@dataclass(frozen=True, slots=True)
class Policy:
    """The required roles of an assignment, how long its requests wait, and whether guest requests are allowed."""

    required: tuple[str, ...] = ("instructions", "student_prompt")
    guests_allowed: bool = True
    patience_s: int = 900  # counted from the append time of a request; 0: nothing waits

    def deadline_ms(self, appended_at_ms: int) -> int:
        """The end of the wait of a request with this append time, in ms since the epoch."""
        return appended_at_ms + self.patience_s * 1000

    def missing_from(self, context: Roles | None, *, brings_prompt: bool) -> tuple[str, ...]:
        """The required roles that neither the context nor the request has."""
        return tuple(
            role
            for role in self.required
            if not is_live(context, role) and not (role == "student_prompt" and brings_prompt)
        )
