"""Every expected error, one class per reaction.

CJStreamError
  BadRecord            write it to the dead-letter topic and continue; a retry cannot help
                       (but an upload that a later release may know, UnknownSchema, stops its partition)
    Malformed            no framing, a damaged body or a limit exceeded: find the producer
    UnknownSchema        an unknown schema id: upgrade cjstream, then re-drive
  Aborted              nothing was committed: rewind and process the batch again
  Fenced               another instance took over, or the outcome is unknown: new producer, start from committed()
    SlotTaken            another process has the slot: end; if it is this process's own old session, join again
  Unreachable          a dependency does not answer: wait and retry; a command exits with 4
    ContentUnreachable   the content store cannot be reached
    ContentTimeout       the content store takes too long
    ContentFailed        the content store answers with an error: check disk, permissions, bucket
  Discrepancy          a check found a gap or a mismatch: report it; a command exits with 3
    ContentMissing       a text is missing from the content store: find the records that name it
    ContentCorrupt       a text in the content store is damaged: store the right bytes again, which repairs it
  Misconfigured        refuse to start and name the setting; a command exits with 2
  StoreFailed          a local store cannot be read or written: free disk space, start again
  ReplicaDamaged       a row of the replica cannot be read: start again, which rebuilds the replica
  Refusal              a change that is not allowed: tell the caller, append nothing
    NotLive              a role that it needs was never uploaded or is deleted
    Immutable            a field cannot change while the instructions are live
    TooManyAnchors       an assignment would have more anchors than it may
    VersionConflict      its precondition does not hold
    ConditionRequired    it needs a precondition and has none
  ReplicaBehind        the replica did not reach the end of the log in time: retry
  WriterContended      another instance fenced this one's writer repeatedly: retry
  OutcomeUnknown       a commit was sent and its result is unknown: read the scope, or repeat the change

Messages contain coordinates, ids and lengths, never the text of a prompt or an essay. A dead letter stores the message
of its BadRecord, and `audit verify` compares it with its own: rewording such a message makes it report old ones.
"""


class CJStreamError(Exception):
    """An expected error; a command that fails with one prints one line and exits with exit_code."""

    exit_code = 1


class BadRecord(CJStreamError):
    """Bytes that are not a valid event."""


class Malformed(BadRecord):
    """No framing, a damaged body or a limit exceeded."""


class UnknownSchema(BadRecord):
    """A schema id that this release does not know; may_be_later: a later release of cjstream may know it."""

    def __init__(self, message: str, *, may_be_later: bool = False) -> None:
        super().__init__(message)
        self.may_be_later = may_be_later


class Aborted(CJStreamError):
    """The transaction was aborted: nothing of it was committed."""


class Fenced(CJStreamError):
    """The producer cannot be used any more: it was fenced, or the outcome of its transaction is unknown."""


class SlotTaken(Fenced):
    """The group's coordinator says that another member has this one's slot."""


class Unreachable(CJStreamError):
    """A dependency does not answer."""

    exit_code = 4


class Discrepancy(CJStreamError):
    """A check found a gap or a mismatch."""

    exit_code = 3


class ContentUnreachable(Unreachable):
    """The content store cannot be reached."""


class ContentTimeout(Unreachable):
    """The content store did not answer in time; the operation may still take effect."""


class ContentFailed(Unreachable):
    """The content store answers with an error; storage_id is the id of the text, if it is about one.

    folder: of a local store; the command line and the logs name it, `message`, which API clients get, does not.
    """

    def __init__(
        self, message: str, storage_id: str | None = None, folder: object | None = None
    ) -> None:
        super().__init__(message if folder is None else f"{message}, in {folder}")
        self.message = message
        self.storage_id = storage_id


class ContentMissing(Discrepancy):
    """A text is missing from the content store."""

    def __init__(self, storage_id: str) -> None:
        super().__init__(f"content {storage_id} is missing from the store")
        self.storage_id = storage_id


class ContentCorrupt(Discrepancy):
    """A text in the content store is damaged."""

    def __init__(self, storage_id: str) -> None:
        super().__init__(f"content {storage_id} is damaged: its bytes have another sha256")
        self.storage_id = storage_id


class Misconfigured(CJStreamError):
    """A setting has an invalid value."""

    exit_code = 2


class StoreFailed(CJStreamError):
    """A local store cannot be read or written."""

    def __init__(self, what: str, fault: Exception) -> None:
        super().__init__(
            f"{what} cannot be read or written: {str(fault)[:200]}; is its disk full? "
            "Free some space and start again; a damaged folder may be deleted, it is rebuilt"
        )


class ReplicaDamaged(CJStreamError):
    """A row of the replica is damaged, or of a later release."""

    def __init__(self, fault: BadRecord) -> None:
        super().__init__(
            f"a row of the replica cannot be read ({fault}): it is damaged, or a later release wrote it; "
            "start again, then the replica is rebuilt"
        )


class Refusal(CJStreamError):
    """A change that is not allowed; nothing is appended."""


class NotLive(Refusal):
    """A role that the change needs (or `assignment`: every role) is not live; was_deleted: it was live before."""

    def __init__(self, role: str, *, was_deleted: bool) -> None:
        super().__init__(f"no live {role}" + (": it was deleted" if was_deleted else ""))
        self.role = role
        self.was_deleted = was_deleted


class Immutable(Refusal):
    """A field cannot change while the instructions are live; current is its value."""

    def __init__(self, field: str, current: str) -> None:
        super().__init__(f"{field} is {current} and cannot change while the instructions are live")
        self.field = field
        self.current = current


class TooManyAnchors(Refusal):
    """An assignment would have more anchors than it may."""

    def __init__(self, count: int, maximum: int) -> None:
        super().__init__(f"the assignment would have {count} anchors, it may have {maximum}")
        self.limit = maximum


class VersionConflict(Refusal):
    """The precondition of a change does not hold.

    expected is the precondition as it was sent. current_tag is the text of the current etag. current_version is 0 if
    there never was a version; for an assignment it is the version of the instructions.
    """

    def __init__(self, *, expected: str, current_version: int, current_tag: str, role: str) -> None:
        super().__init__(f"{role} is at {current_tag}, expected was {expected}")
        self.expected = expected
        self.current_version = current_version
        self.current_tag = current_tag
        self.role = role


class ConditionRequired(Refusal):
    """A change lacks the precondition that this installation requires; the attributes are as in VersionConflict."""

    def __init__(self, *, current_version: int, current_tag: str, role: str) -> None:
        super().__init__(f"a condition on the {role} is required; it is at {current_tag}")
        self.current_version = current_version
        self.current_tag = current_tag
        self.role = role


class ReplicaBehind(CJStreamError):
    """The replica did not reach the end of the log in time."""

    exit_code = 4


class WriterContended(CJStreamError):
    """Another instance fenced the writer of an upload partition repeatedly; nothing was appended."""

    exit_code = 4


class OutcomeUnknown(CJStreamError):
    """It could not be determined in time whether the change of this scope was appended."""

    exit_code = 4

    def __init__(self, scope_key: str) -> None:
        super().__init__(
            f"it is not known whether the change of {scope_key} was appended: read it, or repeat it"
        )
        self.scope_key = scope_key
