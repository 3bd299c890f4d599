"""How many calls one provider's model takes at a time, as this process learns it. Pure: times are passed in.

The limit doubles after each full round until the provider first refuses a call for its rate (429); from then on, such a
refusal takes a fifth of the limit away, once per episode, and each full round adds one call (additive increase,
multiplicative decrease). A round is as many answers as the limit allows calls, if the limit was reached meanwhile.
"""

from dataclasses import dataclass, replace

from processors.judging.judges.judge import Answered, Failed

START_LIMIT = 8
DECREASE = 0.8
BREAK_AFTER = 5  # faults in a row; then one probe at a time
RETRY_AFTER_MAX_MS = 120_000
BACKOFF_MAX_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The state of one endpoint. in_flight: calls that have a slot, sent or about to be."""

    maximum: int
    limit: int
    in_flight: int = 0
    was_full: bool = False  # in this round
    answered: int = 0  # in this round
    is_doubling: bool = True  # until the first 429
    refused_at_ms: int | None = None  # the start of the last episode of 429
    refusals_in_a_row: int = 0
    faults_in_a_row: int = 0
    closed_until_ms: int = 0

    def slots(self, now_ms: int) -> int:
        """How many more calls it takes now."""
        if now_ms < self.closed_until_ms:
            return 0
        limit = 1 if self.is_broken else self.limit
        return max(0, limit - self.in_flight)

    @property
    def is_broken(self) -> bool:
        """Whether its circuit breaker has opened: it takes one probe at a time."""
        return self.faults_in_a_row >= BREAK_AFTER

    def taken(self, calls: int) -> "Endpoint":
        """After calls got slots."""
        in_flight = self.in_flight + calls
        return replace(self, in_flight=in_flight, was_full=self.was_full or in_flight >= self.limit)

    def released(self, calls: int) -> "Endpoint":
        """After calls gave their slots back unsent."""
        return replace(self, in_flight=self.in_flight - calls)

    def ended(
        self, outcome: Answered | Failed, asked_at_ms: int, now_ms: int, jitter: float
    ) -> "Endpoint":
        """After the outcome of a call. jitter: the share of a backoff that is waited, 0.5 to 1."""
        free = self.released(1)
        match outcome:
            case Failed(reason="rate_limited"):
                return _refused(free, outcome.retry_after_ms, asked_at_ms, now_ms, jitter)
            case Failed(reason="provider_error" | "timeout"):
                return _failed(free, now_ms, jitter)
            case Failed(reason="provider_refused" | "request_refused"):
                return free  # this says nothing about its load
        return _answered(free)


def new_endpoint(maximum: int) -> Endpoint:
    """An endpoint of which nothing is known yet."""
    return Endpoint(maximum=maximum, limit=min(START_LIMIT, maximum))


def backoff_ms(failures: int, jitter: float) -> int:
    """min(60, 2^failures) seconds, times the jitter."""
    return int(min(BACKOFF_MAX_MS, 1000 * 2 ** min(failures, 30)) * jitter)


def _refused(
    state: Endpoint, retry_after_ms: int | None, asked_at_ms: int, now_ms: int, jitter: float
) -> Endpoint:
    in_a_row, limit = state.refusals_in_a_row, state.limit
    # calls that were asked before the last decrease belong to its episode
    is_new_episode = state.refused_at_ms is None or asked_at_ms >= state.refused_at_ms
    if is_new_episode:
        limit, in_a_row = max(1, int(limit * DECREASE)), in_a_row + 1
    pause = (
        backoff_ms(in_a_row - 1, jitter)
        if retry_after_ms is None
        else min(retry_after_ms, RETRY_AFTER_MAX_MS)
    )
    return replace(
        state,
        limit=limit,
        was_full=False,
        answered=0,
        is_doubling=False,
        refused_at_ms=now_ms if is_new_episode else state.refused_at_ms,
        refusals_in_a_row=in_a_row,
        faults_in_a_row=0,
        closed_until_ms=max(state.closed_until_ms, now_ms + pause),
    )


def _failed(state: Endpoint, now_ms: int, jitter: float) -> Endpoint:
    """A fault begins the round anew, which pauses growth."""
    faults = state.faults_in_a_row + 1
    pause = backoff_ms(faults - BREAK_AFTER, jitter) if faults >= BREAK_AFTER else 0
    return replace(
        state,
        was_full=False,
        answered=0,
        faults_in_a_row=faults,
        closed_until_ms=max(state.closed_until_ms, now_ms + pause),
    )


def _answered(state: Endpoint) -> Endpoint:
    answered = state.answered + 1
    if answered >= state.limit and state.was_full:
        grown = state.limit * 2 if state.is_doubling else state.limit + 1
        state = replace(state, limit=min(grown, state.maximum), was_full=False)
        answered = 0
    return replace(state, answered=answered, refusals_in_a_row=0, faults_in_a_row=0)
