"""A channel into a Faust agent whose queue survives the rebalances of Faust's consumer group.

A plain `app.channel()` loses items: at a rebalance Faust clears the queue and cancels every waiting
`put()`, and an item that is put before the agent iterates reaches nobody.
"""

from typing import Any

import faust
from mode.utils.queues import FlowControlEvent, ThrowableQueue


class BoundedChannel(faust.Channel[Any]):
    """A bounded queue of items for one agent; `put` waits while it is full.

    Every clone that a stream iterates uses the root channel's queue. The queue has its own flow control,
    which is always open, so that Faust neither suspends nor clears it. A waiting `put()` is interrupted
    only when its task is cancelled, at the app's stop.
    """

    @property
    def queue(self) -> ThrowableQueue[Any]:
        """The root channel's queue, also if a clone is asked."""
        if self._root is not None:
            return self._root.queue
        if self._queue is None:
            always_open = FlowControlEvent(initially_suspended=False)
            self._queue = ThrowableQueue(self.maxsize or 0, flow_control=always_open)
        return self._queue

    async def put(self, value: Any) -> None:
        """Put one item into the queue, in order, whether or not the agent iterates yet."""
        await self.queue.put(value)
