"""One run, record by record: each is compared with what the records before it and the stored texts demand."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

import orjson

from processors.judging.calls import FREE, asked_of, bounds_of, request_of, texts_of_run
from processors.judging.judges import anthropic_messages, openai_chat, simulated
from processors.judging.judges.answer import Answer, read_answer
from processors.judging.prompt import build_prompt, judge_sha256, prompt_sha256
from processors.judging.run_opening import all_comparisons, seed_of
from schemas.codec import FRAME, Codec
from schemas.coordinates import Coordinates
from schemas.errors import ContentCorrupt, ContentMissing, Discrepancy
from schemas.judging_events import (
    CallAnswered,
    CallFailed,
    CallsIntended,
    CJBatchJudged,
    JudgingEvent,
    JudgingOpened,
    JudgingStopped,
    RecordRange,
    WavePlanned,
)
from schemas.models import Price
from tables.judging.cost_ledger import cost_pusd
from tables.judging.next_step import BoundOf, Call, Plan, next_step
from tables.judging.pair_selection import COVER_WAVES, is_as_good
from tables.judging.result import result_of
from tables.judging.run import Run, abandon_calls, fold
from tables.judging.stopping_rule import Stop
from tools.audit.check.findings import Finding, Note, NotVerifiable, Violation
from tools.audit.judging.kept_texts import KeptTexts
from tools.models.catalogue import price_rows

READERS: Mapping[str, Callable[[bytes], Answer | None]] = {  # of kept responses, by adapter
    simulated.ADAPTER: read_answer,
    openai_chat.ADAPTER: openai_chat.read_kept,
    anthropic_messages.ADAPTER: anthropic_messages.read_kept,
}


def affordable(_first: int, _second: int) -> int:
    """The bound of a call whose texts are gone: it cannot be checked against the budget again."""
    return 0


class RunCheck:
    """A run whose first record is `opened`. texts: None if neither texts nor responses are checked."""

    def __init__(
        self,
        opened: JudgingOpened,
        at: Coordinates,
        codec: Codec,
        texts: KeptTexts | None,
    ) -> None:
        self.run: Run | None = None
        self.at = at
        self.end = at.offset + 1  # the position behind its last record
        self.is_sound = True  # False: nothing that follows can be made again
        self.result: CJBatchJudged | None = None  # made again, once it has stopped
        self.made_sha256 = ""  # of that result
        self._opened = opened
        self._codec = codec
        self._texts = texts
        self._bound_of: BoundOf = affordable

    def check(self, event: JudgingEvent, at: Coordinates) -> Iterator[Finding]:
        """The findings of the run's next record, the first one included."""
        if not self.is_sound:
            return
        found = list(self._made_again(event, at))
        try:
            self.run = fold(self.run, event)
        except Discrepancy as fault:
            found.append(Violation("contradiction", at, str(fault)))
        if isinstance(event, JudgingOpened) and not found:
            found += self._check_texts(at)
        self.is_sound = not any(isinstance(finding, Violation) for finding in found)
        self.end = at.offset + 1
        yield from found

    def _made_again(self, event: JudgingEvent, at: Coordinates) -> Iterator[Finding]:
        run = self.run
        match event:
            case JudgingOpened():
                yield from _check_judge(event, at)
            case WavePlanned() if run is not None:
                yield from self._check_plan(run, event, at)
            case CallsIntended() if run is not None:
                yield from self._check_calls(run, event, at)
            case CallAnswered() | CallFailed() if run is not None:
                yield from self._check_outcome(run, event, at)
            case JudgingStopped() if run is not None:
                yield from self._check_stop(run, event, at)

    def _check_texts(self, at: Coordinates) -> Iterator[Finding]:
        """Checks the first record against the texts, and finds out whether prompts can be made again."""
        if self._texts is None or self.run is None:
            return
        missing, damaged = self._texts.faults_of(self._opened)
        for storage_id in damaged:
            sentence = f"the content store has different bytes for its text {storage_id}"
            yield Violation("text_damaged", at, sentence)
        if missing or damaged:
            if missing:
                sentence = f"{len(missing)} of its texts are gone: its prompts cannot be made again"
                yield NotVerifiable("texts_gone", at, sentence)
            self._texts = None
            return
        opened, get = self._opened, self._texts.get
        sizes = [(item, len(get(item.storage_id).encode())) for item in self.run.items]
        if any(item.size_bytes != size for item, size in sizes):
            yield Violation("wrong_size", at, "an essay has another size than the record says")
        shared = texts_of_run(opened, get)
        made = judge_sha256(build_prompt(asked_of(opened.judge), shared, "", "", opened.seed, 0))
        if made != opened.judge.judge_sha256:
            yield Violation("wrong_judge_sha256", at, "its judge and texts have another checksum")
        self._bound_of = bounds_of(self.run, get)

    def _check_plan(self, run: Run, event: WavePlanned, at: Coordinates) -> Iterator[Finding]:
        if event.wave <= len(run.waves):
            return  # repeated: the fold compares it
        step = next_step(run, 0, self._bound_of)
        if isinstance(step, Plan) and step.comparisons == event.comparisons:
            return
        if (
            isinstance(step, Plan)
            and event.wave > COVER_WAVES
            and is_as_good(run.scores.fit, event.comparisons, step.comparisons)
        ):
            yield Note("another_wave", at, "another wave promises as much, to 1e-5")
            return
        instead = "another wave" if isinstance(step, Plan) else f"no wave but {_name_of(step)}"
        yield Violation("wrong_plan", at, f"the records before it demand {instead}")

    def _check_calls(self, run: Run, event: CallsIntended, at: Coordinates) -> Iterator[Finding]:
        if event.mode != "live":
            yield Violation("wrong_mode", at, "calls are sent live")
        if self._texts is None:
            return
        for call in event.calls:
            if call.number >= run.planned:
                return  # the fold reports it
            name = f"attempt {call.attempt} of comparison {call.number}"
            plan = run.comparison(call.number).plan
            bound = self._bound_of(plan.first, plan.second)
            if call.bound_pusd != bound:
                yield Violation("wrong_bound", at, f"{name} costs at most {bound} pico-dollars")
            asked = Call(call.number, call.attempt, plan.first, plan.second, bound)
            if prompt_sha256(request_of(run, asked, self._texts.get).prompt) != call.prompt_sha256:
                yield Violation("wrong_prompt", at, f"{name}: its texts make another prompt")

    def _check_outcome(
        self, run: Run, event: CallAnswered | CallFailed, at: Coordinates
    ) -> Iterator[Finding]:
        judge = self._opened.judge
        is_free = isinstance(event, CallFailed) and event.reason in FREE
        cost = 0 if is_free else None
        if event.usage is not None and judge.prices is not None:
            cost = cost_pusd(event.usage, judge.prices)
        if (event.cost_pusd, event.price_id) != (cost, judge.price_id):
            sentence = f"its tokens cost {cost} pico-dollars by price {judge.price_id}"
            yield Violation("wrong_cost", at, sentence)
        if event.provider != judge.provider:
            yield Violation("wrong_provider", at, f"its run asks {judge.provider}")
        if isinstance(event, CallFailed) and event.number < run.planned:
            one = run.comparison(event.number)
            try:
                will_retry = not one.retries.after(event, self._opened.seed).is_lost
            except Discrepancy:
                return  # the fold reports the unknown reason
            if event.will_retry != will_retry:
                yield Violation("wrong_retry", at, f"will_retry is {str(will_retry).lower()}")
        yield from self._check_response(event, at)

    def _check_response(
        self, event: CallAnswered | CallFailed, at: Coordinates
    ) -> Iterator[Finding]:
        """The winner from the response, as long as that is kept: an erasure takes it."""
        read = READERS.get(self._opened.judge.adapter)
        if self._texts is None or event.response_storage_id is None or read is None:
            return
        try:
            answer = read(self._texts.response(event.response_storage_id))
        except ContentMissing:
            yield Note("response_gone", at, f"its response {event.response_storage_id} is gone")
            return
        except ContentCorrupt as fault:
            yield Violation("response_damaged", at, str(fault))
            return
        winner = None if answer is None else answer.winner
        if isinstance(event, CallAnswered):
            given = (winner, None if answer is None else answer.confidence)
            if given != (event.winner, event.confidence):
                yield Violation("wrong_winner", at, f"its response names {winner or 'no winner'}")
        elif event.reason == "invalid_answer" and winner is not None:
            yield Violation("wrong_winner", at, f"its response is valid and names {winner}")

    def _check_stop(self, run: Run, event: JudgingStopped, at: Coordinates) -> Iterator[Finding]:
        run = abandon_calls(run)  # a run stops with no call open, so that none is alive
        stop = Stop(event.outcome, event.reason)
        step = next_step(run, event.decided_at_ms, self._bound_of)
        if step != stop:
            sentence = f"the records before it demand {_name_of(step)}"
            yield Violation("wrong_stop", at, sentence)
        judging = RecordRange(
            topic=self.at.topic, partition=self.at.partition, start=self.at.offset, end=self.end
        )
        self.result = result_of(run, stop, judging)
        self.made_sha256 = result_sha256(self._codec.encode(self.result))


def result_sha256(value: bytes) -> str:
    """What JudgingStopped says of a result: the sha256 of its Avro body, in hex."""
    return hashlib.sha256(value[FRAME.size :]).hexdigest()


def check_without_overrides(
    opened: JudgingOpened, rubric: str | None, at: Coordinates
) -> Iterator[Finding]:
    """The members of a first record that follow from the batch if its request has no overrides."""
    if opened.prompt.rubric != rubric or opened.prompt.system is not None:
        yield Violation("wrong_opening", at, "its request has no text of its own for the judge")
    if opened.seed != seed_of(opened.run_id):
        yield Violation("wrong_opening", at, "its seed is not that of its run_id")
    per_item_max = orjson.loads(opened.policy).get("per_item_max", 0)
    items = len(opened.essays) + len(opened.anchors)
    if opened.max_comparisons != all_comparisons(items, per_item_max):
        sentence = "max_comparisons does not follow from its items and per_item_max"
        yield Violation("wrong_opening", at, sentence)


def _check_judge(opened: JudgingOpened, at: Coordinates) -> Iterator[Finding]:
    judge = opened.judge
    if (judge.prices is None) != (judge.price_id is None):
        yield Violation("wrong_price", at, "prices and price_id belong together")
    if judge.prices is None:
        return
    if judge.provider == simulated.PROVIDER:
        made = Price(
            provider=judge.provider, model=judge.model, prices=judge.prices, source="simulated"
        )
        is_right = made.price_id == judge.price_id
    else:  # rows of another release and of a models file are not known here
        known = {row.price_id: row.prices for row in price_rows()}
        is_right = known.get(str(judge.price_id), judge.prices) == judge.prices
    if not is_right:
        yield Violation("wrong_price", at, "its price_id is not the checksum of its price row")


def _name_of(step: object) -> str:
    if isinstance(step, Stop):
        return f"{step.outcome}: {step.reason}"
    return f"a {type(step).__name__}"


def differs_by_rounding(one: CJBatchJudged, other: CJBatchJudged) -> bool:
    """Whether two results differ in numbers by 1e-6 at most, and in nothing else."""
    return _are_close(asdict(one), asdict(other))


def _are_close(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1.000001e-6
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_close(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_are_close, one, other))
    return one == other
