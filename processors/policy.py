"""What an assignment must have before its requests are prepared, and how long a request waits."""

from dataclasses import dataclass

from tables.context import Roles, is_live


@dataclass(frozen=True, slots=True)
class Policy:
    """Which roles an assignment must have before its batch may go, how long one waits, whether guests may."""

    required: tuple[str, ...] = ("instructions", "student_prompt")
    guests_allowed: bool = True
    patience_s: int = 900  # from a request's append; 0: nothing waits

    def deadline_ms(self, appended_at_ms: int) -> int:
        """Until when a request waits that was appended then."""
        return appended_at_ms + self.patience_s * 1000

    def missing_from(self, context: Roles | None, *, brings_prompt: bool) -> tuple[str, ...]:
        """The required roles that neither the context nor the request has."""
        return tuple(
            role
            for role in self.required
            if not is_live(context, role) and not (role == "student_prompt" and brings_prompt)
        )
