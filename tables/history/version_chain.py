"""The version chain of one role of one scope: each upload has a number and names the event before it. Pure.

If the predecessor of a link is not in the log, there is a gap: compaction, retention or a deletion of records removed
it. If the predecessor is there, wrong numbers are only a mark: a foreign producer may number its uploads wrongly.
"""

from typing import NamedTuple

RECENT = 4  # newest events that a link may name: two producers may have read the same predecessor

REPEATED = "version_repeated"  # the version number is not higher than the one before
SKIPPED = "version_skipped"  # version numbers are left out, but the predecessor is in the log


class VersionLink(NamedTuple):
    """An upload's place in its chain; previous is the event id of its predecessor."""

    version: int
    event_id: str
    previous: str | None


class VersionChain(NamedTuple):
    """The version number of the newest link, and the last RECENT event ids, newest first."""

    version: int
    recent: tuple[str, ...]


class ChainStep(NamedTuple):
    """The result of adding a link: is_gap says whether something before it is not in the log."""

    is_gap: bool
    mark: str | None


EMPTY_CHAIN = VersionChain(0, ())  # before the first upload of all


def step(chain: VersionChain, link: VersionLink, damaged: int = 0) -> ChainStep:
    """Check a link against the chain; `damaged` records between them may be the missing links."""
    left_out = link.version - chain.version - 1
    mark = REPEATED if left_out < 0 else None
    if link.previous in chain.recent:
        return ChainStep(False, mark or (SKIPPED if left_out else None))
    needs_no_predecessor = link.previous is None and left_out <= 0
    is_explained = max(left_out, 1) <= damaged
    return ChainStep(not (needs_no_predecessor or is_explained), mark)


def extended(chain: VersionChain, link: VersionLink) -> VersionChain:
    """The chain with this link added."""
    return VersionChain(link.version, (link.event_id, *chain.recent[: RECENT - 1]))
