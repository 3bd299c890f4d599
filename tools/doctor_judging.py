"""What `cjstream doctor` checks of judging: numerics, models, lag, open runs and money in doubt."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from processors.judging.judges.known_judges import default_model, known_models
from processors.kafka.consumer_groups import committed_offsets, group_state
from processors.log.reader import LogReader
from processors.monitoring.installation_health import unread_batches
from processors.settings import Settings
from schemas.codec import Codec
from schemas.errors import BadRecord
from schemas.judging_events import JudgingEvent, JudgingOpened
from schemas.models import PUSD_PER_USD
from tables.judging.golden_fit import TOLERANCE, largest_difference
from tables.judging.run import Run, fold
from tools.doctor_check import Check, failed_or
from tools.models.catalogue import read_catalogue
from tools.printing import number_of
from tools.times import span_of

NUMERICS = "scores are computed as elsewhere"
MODELS = "models and prices"
JUDGING = "judging"
RUNS = "runs being judged"
STUCK_S = 60.0  # a judge stops a run at its deadline


def judging_checks(settings: Settings, codec: Codec, now_ms: int) -> list[Check]:
    """Every check of judging. Raises Unreachable."""
    return [
        numerics_check(largest_difference()),
        failed_or(MODELS, partial(_models, settings)),
        failed_or(JUDGING, partial(_lag, settings)),
        failed_or(RUNS, lambda: runs_check(_open_runs(settings, codec), now_ms)),
    ]


def numerics_check(difference: float) -> Check:
    """Whether a small fit gives the recorded scores."""
    if difference <= TOLERANCE:
        return Check(NUMERICS, True, f"a fit differs by {difference:.0e} from the recorded one")
    return Check(
        NUMERICS,
        False,
        f"a fit differs by {difference:.0e} from the recorded one, allowed is {TOLERANCE:.0e}: install the locked"
        " numpy and scipy; until then, judge nothing on this machine",
    )


def _models(settings: Settings) -> Check:
    """Raises Misconfigured."""
    known = known_models(settings, read_catalogue(settings.models_file, datetime.now(UTC).date()))
    if not settings.judge and settings.environment != "development":
        return Check(MODELS, True, f"{len(known.all)} models; no judge is configured here")
    model = default_model(settings, known)
    price = "its price is known" if model.price else "its price is not known: costs will be null"
    return Check(MODELS, True, f"{len(known.all)} models; {model.name} judges, {price}")


def _lag(settings: Settings) -> Check:
    """Whether batches wait for a judge although none runs. Raises Unreachable."""
    batches = settings.topics.batches
    if not committed_offsets(settings, settings.judge_group, settings.partitions_of(batches)):
        return Check(JUDGING, True, "no judge has run")
    judges = group_state(settings, settings.judge_group, [batches.name]).members
    behind = sum(unread.offsets for unread in unread_batches(settings).values())
    detail = f"{number_of(judges, 'judge')}, {number_of(behind, 'record')} behind"
    if behind and not judges:
        return Check(JUDGING, False, f"{detail}: start one with `cjstream judge`")
    return Check(JUDGING, True, detail)


def _open_runs(settings: Settings, codec: Codec) -> list[Run]:
    """The runs that have not stopped, from the position from which a new judge would read them."""
    partitions = settings.partitions_of(settings.topics.judging)
    starts = committed_offsets(settings, settings.judge_group, partitions)
    runs = dict[str, Run]()
    if not starts:
        return []
    with LogReader(settings, starts) as log:
        ranges = log.offset_ranges()
        log.seek({tp: max(start, ranges[tp][0]) for tp, start in starts.items()})
        for record in log.records_until({tp: ranges[tp][1] for tp in starts}):
            try:
                event = codec.decode(record.value)
            except BadRecord:
                continue  # the judge names and skips it
            if not isinstance(event, JudgingEvent):
                continue
            run = runs.get(event.run_id)
            if run is not None or isinstance(event, JudgingOpened):
                runs[event.run_id] = fold(run, event)
    return [run for run in runs.values() if run.stopped is None]


def runs_check(runs: Iterable[Run], now_ms: int) -> Check:
    """The oldest open run, the money in doubt, and the runs that no judge has stopped at their deadline."""
    by_age = sorted(runs, key=lambda run: run.opened.opened_at_ms)
    if not by_age:
        return Check(RUNS, True, "none")
    oldest = by_age[0].opened
    doubt_pusd = sum(run.ledger.in_doubt_pusd for run in by_age)
    detail = (
        f"{len(by_age)}; the oldest is {oldest.run_id}, since"
        f" {span_of((now_ms - oldest.opened_at_ms) / 1000)}; in doubt: {doubt_pusd / PUSD_PER_USD:.6f} USD"
    )
    stuck = [run for run in by_age if now_ms > run.opened.deadline_at_ms + STUCK_S * 1000]
    if not stuck:
        return Check(RUNS, True, detail)
    late = span_of((now_ms - stuck[0].opened.deadline_at_ms) / 1000)
    return Check(
        RUNS,
        False,
        f"{detail}; {len(stuck)} are past their deadline, {stuck[0].opened.run_id} by {late}: does a judge run,"
        " and does it log that a run cannot ask its judge?",
    )
