"""The endpoints of this process: which of them has a free slot now."""

import random
from collections.abc import Mapping

from processors.judging.calls import CallToSend, EndedCall
from processors.judging.endpoints import Endpoint, new_endpoint
from processors.kafka.bounded_wait import SYSTEM_CLOCK, Clock
from schemas.judging_events import Judge

EndpointName = tuple[str, str]  # provider, model


def endpoint_of(judge: Judge) -> EndpointName:
    """The endpoint that a run asks."""
    return judge.provider, judge.model


def endpoint_of_call(call: CallToSend) -> EndpointName:
    """The endpoint that a call is for."""
    return call.request.prompt.provider, call.request.prompt.model


class EndpointSlots:
    """What is known of each endpoint; the cycle thread alone changes it."""

    def __init__(self, concurrency_max: int, clock: Clock = SYSTEM_CLOCK) -> None:
        self._concurrency_max = concurrency_max
        self._clock = clock
        self._random = random.Random()  # of pauses only; nothing that is recorded depends on it
        self._endpoints: dict[EndpointName, Endpoint] = {}

    @property
    def endpoints(self) -> Mapping[EndpointName, Endpoint]:
        """What is known of the judges that were asked; any thread may ask."""
        return dict(self._endpoints)

    def free(self, name: EndpointName) -> int:
        """How many more calls it takes now."""
        return self._endpoint(name).slots(self._now_ms())

    def take(self, name: EndpointName, calls: int) -> None:
        """Give slots to calls."""
        self._endpoints[name] = self._endpoint(name).taken(calls)

    def release(self, call: CallToSend) -> None:
        """Take back the slot of a call that is not sent."""
        name = endpoint_of_call(call)
        self._endpoints[name] = self._endpoint(name).released(1)

    def end(self, ended: EndedCall) -> None:
        """Take back the slot of a call, and learn from its outcome, if it was sent."""
        if ended.outcome is None:
            self.release(ended.call)
            return
        name = endpoint_of_call(ended.call)
        jitter, now_ms = self._random.uniform(0.5, 1.0), self._now_ms()
        self._endpoints[name] = self._endpoint(name).ended(
            ended.outcome, now_ms - ended.took_ms, now_ms, jitter
        )

    def _endpoint(self, name: EndpointName) -> Endpoint:
        return self._endpoints.setdefault(name, new_endpoint(self._concurrency_max))

    def _now_ms(self) -> int:
        return round(self._clock.monotonic() * 1000)
