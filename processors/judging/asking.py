"""Asks the judge of a call, once, and keeps its response."""

import asyncio
import logging
from collections.abc import Mapping
from functools import partial

from processors.exactly_once.fetch_epoch import FetchEpoch
from processors.judging.calls import CallToSend, EndedCall
from processors.judging.judges.judge import Answered, Failed, Judge
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from schemas.errors import Unreachable
from tables.content_store import ContentStore

log = logging.getLogger("cjstream.judging")


class Asking:
    """judges: by provider and model. responses: where they are kept, if they are."""

    def __init__(
        self,
        epochs: FetchEpoch,
        judges: Mapping[tuple[str, str], Judge],
        responses: ContentStore | None,
        call_timeout_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._epochs = epochs
        self._judges = judges
        self._responses = responses
        self._call_timeout_s = call_timeout_s
        self._clock = clock
        self._keeps_responses = True  # whether the last one was kept

    async def ask(self, call: CallToSend) -> EndedCall:
        """The outcome of a call; it is not sent if its epoch has ended: this process may own the run no longer."""
        if call.epoch != self._epochs.number:  # the last look
            return EndedCall(call, None, 0, None)
        judge = self._judges[call.request.prompt.provider, call.request.prompt.model]
        started_at = self._clock.monotonic()
        outcome = await judge.ask(call.request, self._call_timeout_s)
        took_ms = round((self._clock.monotonic() - started_at) * 1000)
        return EndedCall(call, outcome, took_ms, await self._kept(outcome))

    async def _kept(self, outcome: Answered | Failed) -> str | None:
        """Store the response as it came; None if there is none, or if the store does not answer."""
        if self._responses is None or not outcome.response:
            return None
        try:
            stored = await asyncio.to_thread(partial(self._responses.put, outcome.response))
        except Unreachable as fault:
            if self._keeps_responses:  # one warning, not one a call
                log.warning("responses are not kept from now on", extra={"reason": str(fault)})
            self._keeps_responses = False
            return None
        if not self._keeps_responses:
            log.info("responses are kept again")
        self._keeps_responses = True
        return stored.storage_id

    async def close(self) -> None:
        """Close the judges' connections."""
        for judge in {id(judge): judge for judge in self._judges.values()}.values():
            await judge.close()
