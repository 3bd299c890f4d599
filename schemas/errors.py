"""Every fault that cjstream foresees, a class per reaction.

CJStreamError
  BadRecord            dead-letter it and go on; no retry can help
    Malformed            no framing, a broken body, a limit exceeded: find the producer
    UnknownSchema        a schema id nobody here knows: release, then re-drive
  Aborted              nothing was committed: rewind, take the batch again
  Fenced               another instance owns this now, or the outcome is unknown: new producer, start from committed()
  Unreachable          a dependency does not answer: wait and retry; a command exits with 4
    ContentUnreachable   nobody answers at the content store
    ContentTimeout       the content store takes too long
    ContentFailed        the content store answers with a fault of its own: look at disk, rights, bucket
  Discrepancy          a check found a gap or a mismatch: report it; a command exits with 3
    ContentMissing       a text is not in the content store: find what names it
    ContentCorrupt       a text in the content store is damaged: put the true bytes again, which heals it
  Misconfigured        refuse to start, and name the setting; a command exits with 2
  StoreFailed          the disk under a process does not take or give its rows: make room, start again
  Refusal              a change that may not be made: tell who asked for it, append nothing
    NotLive              what it needs was never there or is deleted
    Immutable            a field that is fixed while the instructions live
    VersionConflict      its condition does not hold
    ConditionRequired    it has no condition, and must have one
  ReplicaBehind        the replica has not folded the log's end in time: ask again
  WriterContended      another instance kept fencing this one's writer: ask again
  OutcomeUnknown       a commit was sent and it is not known what became of it: read, or repeat

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


class ContentUnreachable(Unreachable):
    """Nobody answers at the content store."""


class ContentTimeout(Unreachable):
    """The content store takes too long; what it was asked for may still happen."""


class ContentFailed(Unreachable):
    """The content store answers with a fault of its own; storage_id is the text's, if it is about one."""

    def __init__(self, message: str, storage_id: str | None = None) -> None:
        super().__init__(message)
        self.storage_id = storage_id


class ContentMissing(Discrepancy):
    """A text is not in the content store."""

    def __init__(self, storage_id: str) -> None:
        super().__init__(f"content {storage_id} is missing from the store")
        self.storage_id = storage_id


class ContentCorrupt(Discrepancy):
    """A text in the content store is damaged."""

    def __init__(self, storage_id: str) -> None:
        super().__init__(f"content {storage_id} is damaged: its bytes have another sha256")
        self.storage_id = storage_id


class Misconfigured(CJStreamError):
    """A setting that cannot be worked with."""

    exit_code = 2


class StoreFailed(CJStreamError):
    """The disk under a local store does not do what it should."""

    def __init__(self, what: str, fault: Exception) -> None:
        super().__init__(
            f"{what} cannot be read or written: {str(fault)[:200]}; is its disk full? "
            "Make room and start again; a damaged folder may be deleted, it is rebuilt"
        )


class Refusal(CJStreamError):
    """A change that may not be made: nothing is appended."""


class NotLive(Refusal):
    """The role that a change needs (or `assignment`: every role) is not live; was_deleted says if it once was."""

    def __init__(self, role: str, *, was_deleted: bool) -> None:
        super().__init__(f"no live {role}" + (": it was deleted" if was_deleted else ""))
        self.role = role
        self.was_deleted = was_deleted


class Immutable(Refusal):
    """A field that cannot change while the instructions live; current is its value."""

    def __init__(self, field: str, current: str) -> None:
        super().__init__(f"{field} is {current} for as long as the instructions live")
        self.field = field
        self.current = current


class VersionConflict(Refusal):
    """The condition of a change does not hold.

    expected is the condition as it was sent, current_tag the text of the tag now, current_version 0 where there
    never was one; of an assignment it is the instructions'.
    """

    def __init__(self, *, expected: str, current_version: int, current_tag: str, role: str) -> None:
        super().__init__(f"{role} is at {current_tag}, expected was {expected}")
        self.expected = expected
        self.current_version = current_version
        self.current_tag = current_tag
        self.role = role


class ConditionRequired(Refusal):
    """A change without the condition that this installation demands; the rest as in VersionConflict."""

    def __init__(self, *, current_version: int, current_tag: str, role: str) -> None:
        super().__init__(f"a condition on the {role} is required; it is at {current_tag}")
        self.current_version = current_version
        self.current_tag = current_tag
        self.role = role


class ReplicaBehind(CJStreamError):
    """The replica has not passed the log's end in time."""

    exit_code = 4


class WriterContended(CJStreamError):
    """Another instance fenced the writer of an upload partition again and again; nothing was appended."""

    exit_code = 4


class OutcomeUnknown(CJStreamError):
    """Whether the change of this scope was appended could not be found out in time."""

    exit_code = 4

    def __init__(self, scope_key: str) -> None:
        super().__init__(
            f"it is not known whether the change of {scope_key} was appended: read it, or repeat it"
        )
        self.scope_key = scope_key
