"""`run preflight --probe`: up to ten real calls of the judge: a wrong key or model is found before a run begins."""

import asyncio
from collections import Counter
from datetime import date

from processors.judging.calls import bounds_of, request_of
from processors.judging.judges.judge import Answered, Failed, JudgeRequest
from processors.judging.judges.judge import Judge as JudgePort
from processors.judging.judges.known_judges import judges_of
from processors.settings import Settings
from schemas.errors import CJStreamError, Misconfigured
from schemas.judging_events import JudgingOpened, WavePlanned
from schemas.models import usd_of
from tables.judging.cost_ledger import cost_pusd
from tables.judging.next_step import Intend, Plan, next_step
from tables.judging.run import Run, fold
from tools.models.catalogue import read_catalogue
from tools.runner.planning import PlannedRun

CALLS = 10


def probe_judge(plan: PlannedRun, settings: Settings, today: date) -> str:
    """Ask the first questions of the run; returns how many were answered, and their cost.

    Raises CJStreamError if one is not answered.
    """
    judge = judges_of(settings, read_catalogue(settings.models_file, today)).get(
        plan.model.provider
    )
    if judge is None:
        raise Misconfigured(f"the key of {plan.model.provider} is not set here")
    requests = first_requests(plan)
    outcomes = asyncio.run(_ask(judge, requests, settings.call_timeout_s))
    reasons = Counter(one.reason for one in outcomes if isinstance(one, Failed))
    spent = sum(_cost(plan.opened.record, one) for one in outcomes)
    answered = sum(isinstance(one, Answered) for one in outcomes)
    found = f"{answered} of {len(requests)} answered, {usd_of(spent)} USD"
    if reasons:
        raise CJStreamError(
            f"{found}; {', '.join(f'{n} {reason}' for reason, n in reasons.items())}"
        )
    return found


def first_requests(plan: PlannedRun) -> list[JudgeRequest]:
    """The first questions that the run would ask, within its budget."""
    opened, texts = plan.opened.record, plan.texts
    run: Run = fold(None, opened)
    bound_of = bounds_of(run, texts.__getitem__)
    planned = next_step(run, opened.opened_at_ms, bound_of, CALLS)
    if isinstance(planned, Plan):
        event = WavePlanned(
            run_id=opened.run_id, wave=planned.wave, comparisons=planned.comparisons
        )
        run = fold(run, event)
    intended = next_step(run, opened.opened_at_ms, bound_of, CALLS)
    calls = intended.calls if isinstance(intended, Intend) else ()
    return [request_of(run, call, texts.__getitem__) for call in calls]


async def _ask(
    judge: JudgePort, requests: list[JudgeRequest], timeout_s: float
) -> list[Answered | Failed]:
    try:
        return list(await asyncio.gather(*(judge.ask(one, timeout_s) for one in requests)))
    finally:
        await judge.close()


def _cost(opened: JudgingOpened, outcome: Answered | Failed) -> int:
    prices = opened.judge.prices
    return 0 if prices is None or outcome.usage is None else cost_pusd(outcome.usage, prices)
