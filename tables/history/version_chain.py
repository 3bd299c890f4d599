"""The chain of one role's uploads at one scope: each names its number and the event before it. Pure.

A link whose predecessor is nowhere in the log proves a gap: compaction, retention or a deletion of records took it.
Numbers alone are the writer's word, and a foreign producer may misnumber: that is a mark, no gap.
"""

from typing import NamedTuple

RECENT = 4  # events that a later one may name: two producers may have read the same one

REPEATED = "version_repeated"  # the number repeats an earlier one, or falls
SKIPPED = "version_skipped"  # numbers are left out, though the event before is the one named


class VersionLink(NamedTuple):
    """What an upload says of its place; previous is the event id of its predecessor."""

    version: int
    event_id: str
    previous: str | None


class VersionChain(NamedTuple):
    """The newest link's number, and the newest event ids, newest first."""

    version: int
    recent: tuple[str, ...]


class ChainStep(NamedTuple):
    """How a link joins the chain: is_gap says that what was before it is not in the log."""

    is_gap: bool
    mark: str | None


BEFORE = VersionChain(0, ())  # before the first upload of all


def step(chain: VersionChain, link: VersionLink, damaged: int = 0) -> ChainStep:
    """How a link joins the chain; damaged records between the two may be what is missing."""
    left_out = link.version - chain.version - 1
    mark = REPEATED if left_out < 0 else None
    if link.previous in chain.recent:
        return ChainStep(False, mark or (SKIPPED if left_out else None))
    names_nothing_unknown = link.previous is None and left_out <= 0
    explained = max(left_out, 1) <= damaged
    return ChainStep(not (names_nothing_unknown or explained), mark)


def joined(chain: VersionChain, link: VersionLink) -> VersionChain:
    """The chain with this link as its newest."""
    return VersionChain(link.version, (link.event_id, *chain.recent[: RECENT - 1]))
