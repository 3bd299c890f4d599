"""How a run ended, and the exit code of the command. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes long, and the help of `run` shows the exit codes
    from tools.runner.run_records import RunRecords

COMPLETE, FAILED, USAGE, PARTIAL, BUDGET, NO_JUDGEMENT = 0, 1, 2, 5, 6, 7
EXIT_CODES = (
    "Exit codes: 0 complete, 1 failed, 2 usage or refused overrides, 3 a discrepancy, 4 a dependency is unreachable,"
    " 5 partial, 6 the budget is used up, 7 the judge gives no signal or refuses. After 5 to 7 there is an artefact."
)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The outcome and reason of a run, and the exit code that tells them."""

    exit_code: int
    outcome: str
    reason: str


def end_of(records: "RunRecords") -> RunEnd:
    """The end of a run as far as it was read; without a result, the time was up."""
    if records.unprepared is not None:
        return RunEnd(FAILED, "unprepared", records.unprepared)
    if records.result is None:
        return RunEnd(PARTIAL, "partial", "timeout")
    result = records.result.event
    return RunEnd(_exit_code(result.outcome, result.reason), result.outcome, result.reason)


def _exit_code(outcome: str, reason: str) -> int:
    match outcome, reason:
        case "complete", _:
            return COMPLETE
        case "partial", "budget":
            return BUDGET
        case "partial", _:
            return PARTIAL
        case "failed", "no_signal" | "provider_refused":
            return NO_JUDGEMENT
        case "refused", "overrides_refused" | "price_unknown":
            return USAGE
        case _:
            return FAILED
