"""After which failed calls a comparison is asked again, when, and when it is lost."""

from dataclasses import dataclass, replace

from schemas.errors import Discrepancy
from schemas.judging_events import CallFailed
from tables.judging.seeded import generator

ANSWERS_MAX = 3  # attempts that brought no valid answer
FAULTS_MAX = 6  # attempts in which the provider failed
INVALID = frozenset({"invalid_answer", "truncated", "declined"})
FAULTS = frozenset({"provider_error", "timeout"})
PROVIDER_REFUSED = "provider_refused"
RETRY_AFTER_MAX_MS = 120_000
BACKOFF_MAX_MS = 60_000


@dataclass(frozen=True, slots=True)
class Retries:
    """The failures of one comparison so far; it is not asked again before not_before_ms."""

    invalid: int = 0
    faults: int = 0
    is_refused: bool = False
    not_before_ms: int = 0

    @property
    def is_lost(self) -> bool:
        return self.is_refused or self.invalid >= ANSWERS_MAX or self.faults >= FAULTS_MAX

    def after(self, failed: CallFailed, seed: int) -> "Retries":
        """Raises Discrepancy for an unknown reason."""
        ended_at_ms = failed.asked_at_ms + failed.took_ms
        match failed.reason:
            case reason if reason in INVALID:
                return replace(self, invalid=self.invalid + 1)
            case reason if reason in FAULTS:
                pause = _backoff_ms(self.faults, failed, seed)
                return replace(self, faults=self.faults + 1, not_before_ms=ended_at_ms + pause)
            case "rate_limited":
                pause = min(failed.retry_after_ms or 0, RETRY_AFTER_MAX_MS)
                return replace(self, not_before_ms=ended_at_ms + pause)
            case "provider_refused" | "request_refused":
                return replace(self, is_refused=True)
        raise Discrepancy(
            f"run {failed.run_id}: attempt {failed.attempt} of comparison {failed.number} "
            f"failed for an unknown reason"
        )


NO_FAILURES = Retries()


def halts(failed: CallFailed) -> bool:
    """Whether nothing more may be asked: the provider refuses the key, or its quota is used up."""
    return failed.reason == PROVIDER_REFUSED


def is_in_doubt(failed: CallFailed) -> bool:
    """Whether the call may have been paid although its cost is unknown."""
    return failed.reason == "timeout" and failed.cost_pusd is None


def _backoff_ms(faults: int, failed: CallFailed, seed: int) -> int:
    """min(60, 2^faults) s, times a number from 0.5 to 1."""
    longest = min(BACKOFF_MAX_MS, 1000 * 2**faults)
    share = generator(seed, "backoff", failed.number, failed.attempt).uniform(0.5, 1.0)
    return int(longest * share)
