"""A channel into a Faust agent whose queue outlives the rebalances of Faust's consumer group.

A plain `app.channel()` loses: at a rebalance Faust clears the queue and cancels whoever waits in
`put()`, and a `put()` before the agent iterates reaches nobody.
"""

from typing import Any

import faust
from mode.utils.queues import FlowControlEvent, ThrowableQueue


class BoundedChannel(faust.Channel[Any]):
    """A bounded queue of items for one agent; `put` waits while it is full.

    Every clone that a stream iterates shares the root's one queue. The flow control is the lane's
    own and always open, so that nothing of Faust suspends or clears it; only cancelling the task
    that waits in `put()`, at the app's stop, ends the wait.
    """

    @property
    def queue(self) -> ThrowableQueue[Any]:
        """The root's queue, whichever clone is asked."""
        if self._root is not None:
            return self._root.queue
        if self._queue is None:
            always_open = FlowControlEvent(initially_suspended=False)
            self._queue = ThrowableQueue(self.maxsize or 0, flow_control=always_open)
        return self._queue

    async def put(self, value: Any) -> None:
        """Hand over one item, in order, whether or not the agent iterates yet."""
        await self.queue.put(value)
