"""One step of a transaction, called again for as long as librdkafka says that it may be, and flushing."""

from collections.abc import Callable

from confluent_kafka import KafkaException, Producer

SLICE_S = 1.0  # of one call's waiting; a timed out call resumes when it is called again


def carried(step: Callable[[], None], goes_on: Callable[[], bool]) -> None:
    """Run one step to its end; goes_on says whether there is time for the same call again.

    Raises the KafkaException that ended it: its marks say what is to follow.
    """
    while True:
        try:
            return step()
        except KafkaException as fault:
            error = fault.args[0]
            again = error.retriable() and not error.fatal() and not error.txn_requires_abort()
            if not again or not goes_on():
                raise


def flushed(producer: Producer) -> int:
    """Wait a while for delivery reports; gives how many are still to come. Raises KafkaException.

    A fatal error that comes while a report is given is raised by the binding as a SystemError.
    """
    try:
        return producer.flush(SLICE_S)
    except SystemError as fault:
        first: BaseException = fault
        while first.__cause__ is not None:
            first = first.__cause__
        if isinstance(first, KafkaException):
            raise first from None
        raise
