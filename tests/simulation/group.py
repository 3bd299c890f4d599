"""The consumer group in memory: members and generations, which alone fence; cooperative rebalances.

The broker's side, and what each member's client has heard of it: the two differ until the client's background
thread has spoken to the broker (`beat`).
"""

import struct
from dataclasses import dataclass, field

from confluent_kafka import KafkaError

from processors.exactly_once.group_consumer import MAGIC
from schemas.coordinates import Partition
from tests.simulation.log import refused

GENERATION = struct.Struct("<i")
NOBODY = -1


@dataclass(slots=True, eq=False)
class Member:
    """One member as the broker knows it."""

    name: str
    instance: str
    seen_at: float
    holds: set[Partition] = field(default_factory=set)  # not anyone else's before it let go
    news: list[tuple[int, set[Partition]]] = field(default_factory=list)  # generation, target
    has_joined: bool = False  # since the group wants to rebalance


class Group:
    """The coordinator's side of the one group."""

    def __init__(self, partitions: list[Partition], session_s: float) -> None:
        self._partitions = partitions
        self._session_s = session_s
        self._names = 0
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.fenced: set[str] = set()  # members whose instance id another one took
        self.unsettled = False

    def join(self, instance: str, now_s: float) -> Member:
        """A new member; one with the instance id of another replaces it, and nothing moves."""
        self._names += 1
        member = Member(f"member-{self._names}", instance, now_s)
        before = next(
            (one for one in self.members.values() if instance == one.instance != ""), None
        )
        if before is None:
            self._unsettle()
        else:
            del self.members[before.name]
            self.fenced.add(before.name)
            member.holds = before.holds
            member.news = [(self.generation, set(before.holds))]
        self.members[member.name] = member
        return member

    def leave(self, name: str) -> None:
        """A member is gone, and what it held is free."""
        if self.members.pop(name, None):
            self._unsettle()

    def _unsettle(self) -> None:
        if not self.unsettled:
            self.unsettled = True
            for member in self.members.values():
                member.has_joined = False

    def beat(self, name: str, now_s: float) -> None:
        """A member's client lives, and knows that the group wants to rebalance."""
        member = self.members[name]
        member.seen_at = now_s
        member.has_joined = True
        if self.unsettled and all(one.has_joined for one in self.members.values()):
            self._rebalance()

    def expire(self, now_s: float) -> None:
        """Whoever was silent for too long is no member any more."""
        for member in list(self.members.values()):
            if now_s - member.seen_at >= self._session_s:
                self.leave(member.name)

    def _rebalance(self) -> None:
        self.generation += 1
        self.unsettled = False
        members = sorted(self.members.values(), key=lambda one: one.name)
        quota = -(-len(self._partitions) // max(1, len(members)))
        targets = {one.name: set(sorted(one.holds)[:quota]) for one in members}
        held = set[Partition]().union(*(one.holds for one in members))
        for at in self._partitions:
            if at not in held:
                least = min(members, key=lambda one: len(targets[one.name]))
                targets[least.name].add(at)
        for one in members:
            one.holds |= targets[one.name]
            one.news.append((self.generation, targets[one.name]))

    def let_go(self, name: str, partitions: set[Partition]) -> None:
        """A member was revoked these and has let go: another rebalance gives them to others."""
        if name in self.members:
            self.members[name].holds -= partitions
            self._unsettle()

    def check(self, metadata: bytes) -> None:
        """Whether offsets may be committed under this metadata: member and generation, nothing else.

        A client that is no member, and says so, is not fenced: this is how the broker is.
        """
        generation, name, _instance = read_metadata(metadata)
        if generation == NOBODY and not name:
            return
        if name in self.fenced:
            raise refused(KafkaError.FENCED_INSTANCE_ID, abort=True)
        if name not in self.members:
            raise refused(KafkaError.UNKNOWN_MEMBER_ID, abort=True)
        if generation != self.generation:
            raise refused(KafkaError.ILLEGAL_GENERATION, abort=True)


class Membership:
    """The client's side: what it has heard, and what its application still has to be told."""

    def __init__(self, group: Group, instance: str) -> None:
        self._group = group
        self._instance = instance
        self.name = ""
        self.generation = NOBODY
        self.assigned: set[Partition] = set()  # as the application knows it
        self.events: list[tuple[str, set[Partition]]] = []
        self.is_fenced = False
        self._wanted = False

    def subscribe(self) -> None:
        """From the next beat on it is a member."""
        self._wanted = True

    def metadata(self) -> bytes:
        """Group metadata, as librdkafka serializes it."""
        said = f"prep\0{self.name}\0{self._instance}\0".encode()
        return MAGIC + GENERATION.pack(self.generation) + said

    def beat(self, now_s: float) -> None:
        """The background thread speaks with the broker once."""
        if not self._wanted or self.is_fenced:
            return
        if not self.name:
            if not self.events:  # what was lost has to be known first
                self.name = self._group.join(self._instance, now_s).name
                self._group.beat(self.name, now_s)
            return
        if self.name in self._group.fenced:
            self.is_fenced = True
            return
        if self.name not in self._group.members:
            self.name, self.generation = "", NOBODY
            self.events = [("lost", set(self.assigned))] if self.assigned else []
            return
        if any(kind == "revoke" for kind, _ in self.events):
            self._group.members[self.name].seen_at = now_s
            return  # it joins again when its application has let go
        self._group.beat(self.name, now_s)
        self._hear(self._group.members[self.name])

    def _hear(self, member: Member) -> None:
        while member.news:
            self.generation, target = member.news.pop(0)
            known = set(self.assigned)
            for kind, partitions in self.events:
                known = known | partitions if kind == "assign" else known - partitions
            if known - target:
                self.events.append(("revoke", known - target))
            if target - known:
                self.events.append(("assign", target - known))

    def let_go(self, partitions: set[Partition]) -> None:
        """The application has been told of a revocation and has let go."""
        if self.name:
            self._group.let_go(self.name, partitions)

    def leave(self) -> None:
        """Leave for good; a static member stays until its session ends."""
        self._wanted = False
        if self.name and not self._instance:
            self._group.leave(self.name)


def read_metadata(metadata: bytes) -> tuple[int, str, str]:
    """Generation, member and instance."""
    generation = GENERATION.unpack_from(metadata, len(MAGIC))[0]
    _group, name, instance, _ = metadata[len(MAGIC) + GENERATION.size :].decode().split("\0")
    return generation, name, instance
