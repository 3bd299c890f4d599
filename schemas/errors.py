"""Every fault that cjstream foresees, a class per reaction.

CJStreamError
  BadRecord            dead-letter it and go on; no retry can help
    Malformed            no framing, a broken body, a limit exceeded: find the producer
    UnknownSchema        a schema id nobody here knows: release, then re-drive
  Aborted              nothing was committed: rewind, take the batch again
  Fenced               another instance owns this now, or the outcome is unknown: new producer, start from committed()
  Unreachable          a dependency does not answer: wait and retry; a command exits with 4
  Discrepancy          a check found a gap or a mismatch: report it; a command exits with 3
  Misconfigured        refuse to start, and name the setting; a command exits with 2

Messages carry coordinates, ids and lengths, never the text of a prompt or an essay.
"""


class CJStreamError(Exception):
    """A foreseen fault; a command that ends with one exits with exit_code and prints one line."""

    exit_code = 1


class BadRecord(CJStreamError):
    """Bytes that are not a valid event."""


class Malformed(BadRecord):
    """No framing, a broken body or a limit exceeded."""


class UnknownSchema(BadRecord):
    """A schema id that this release does not know."""


class Aborted(CJStreamError):
    """The transaction was aborted: nothing of it was committed."""


class Fenced(CJStreamError):
    """The producer can do no more: it was fenced, or what became of its transaction is unknown."""


class Unreachable(CJStreamError):
    """A dependency does not answer."""

    exit_code = 4


class Discrepancy(CJStreamError):
    """A check found a gap or a mismatch."""

    exit_code = 3


class Misconfigured(CJStreamError):
    """A setting that cannot be worked with."""

    exit_code = 2
