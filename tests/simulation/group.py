"""The consumer group in memory: fencing by member and generation, and cooperative rebalances.

It models the broker's state and each client's view of it. The two differ until the client's background thread has
sent a heartbeat to the broker.
"""

import struct
from dataclasses import dataclass, field

from confluent_kafka import KafkaError

from processors.exactly_once.group_consumer import MAGIC
from schemas.coordinates import Partition
from tests.simulation.log import refused

GENERATION = struct.Struct("<i")
NO_GENERATION = -1


@dataclass(slots=True, eq=False)
class Member:
    """One member as the broker sees it."""

    name: str
    instance: str
    seen_at: float
    owned: set[Partition] = field(default_factory=set)  # assigned to nobody else until released
    # generation and target assignment, not yet received by the client
    assignments: list[tuple[int, set[Partition]]] = field(default_factory=list)
    has_joined: bool = False  # the rebalance that is in progress


class Group:
    """The coordinator's state of the only group."""

    def __init__(self, partitions: list[Partition], session_s: float) -> None:
        self._partitions = partitions
        self._session_s = session_s
        self._names = 0
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.fenced: set[str] = set()  # members whose instance id another member has taken
        self.is_rebalancing = False

    def join(self, instance: str, now_s: float) -> Member:
        """Add a member; one with the instance id of another replaces it without a rebalance."""
        self._names += 1
        member = Member(f"member-{self._names}", instance, now_s)
        replaced = next(
            (known for known in self.members.values() if instance == known.instance != ""), None
        )
        if replaced is None:
            self._start_rebalance()
        else:
            del self.members[replaced.name]
            self.fenced.add(replaced.name)
            member.owned = replaced.owned
            member.assignments = [(self.generation, set(replaced.owned))]
        self.members[member.name] = member
        return member

    def leave(self, name: str) -> None:
        """Remove a member, which releases its partitions."""
        if self.members.pop(name, None):
            self._start_rebalance()

    def _start_rebalance(self) -> None:
        if not self.is_rebalancing:
            self.is_rebalancing = True
            for member in self.members.values():
                member.has_joined = False

    def heartbeat(self, name: str, now_s: float) -> None:
        """Note that a member's client is alive and joins a rebalance that is in progress."""
        member = self.members[name]
        member.seen_at = now_s
        member.has_joined = True
        if self.is_rebalancing and all(other.has_joined for other in self.members.values()):
            self._rebalance()

    def expire(self, now_s: float) -> None:
        """Remove members whose session timed out."""
        for member in list(self.members.values()):
            if now_s - member.seen_at >= self._session_s:
                self.leave(member.name)

    def _rebalance(self) -> None:
        self.generation += 1
        self.is_rebalancing = False
        members = sorted(self.members.values(), key=lambda member: member.name)
        quota = -(-len(self._partitions) // max(1, len(members)))
        targets = {member.name: set(sorted(member.owned)[:quota]) for member in members}
        owned = set[Partition]().union(*(member.owned for member in members))
        for partition in self._partitions:
            if partition not in owned:
                smallest = min(members, key=lambda member: len(targets[member.name]))
                targets[smallest.name].add(partition)
        for member in members:
            member.owned |= targets[member.name]
            member.assignments.append((self.generation, targets[member.name]))

    def release(self, name: str, partitions: set[Partition]) -> None:
        """Release partitions that a member was revoked; another rebalance assigns them to others."""
        if name in self.members:
            self.members[name].owned -= partitions
            self._start_rebalance()

    def check(self, metadata: bytes) -> None:
        """Raise if offsets may not be committed under this metadata: only member and generation are checked.

        Like a real broker, it does not fence a client that says that it is not a member.
        """
        generation, name, _instance = read_metadata(metadata)
        if generation == NO_GENERATION and not name:
            return
        if name in self.fenced:
            raise refused(KafkaError.FENCED_INSTANCE_ID, abort=True)
        if name not in self.members:
            raise refused(KafkaError.UNKNOWN_MEMBER_ID, abort=True)
        if generation != self.generation:
            raise refused(KafkaError.ILLEGAL_GENERATION, abort=True)


class Membership:
    """The client's view of the group, and the events that its application has not yet received."""

    def __init__(self, group: Group, instance: str) -> None:
        self._group = group
        self._instance = instance
        self.name = ""
        self.generation = NO_GENERATION
        self.assigned: set[Partition] = set()  # as far as the application has received it
        self.events: list[tuple[str, set[Partition]]] = []
        self.is_fenced = False
        self._is_subscribed = False

    def subscribe(self) -> None:
        """Become a member at the next heartbeat."""
        self._is_subscribed = True

    def metadata(self) -> bytes:
        """Group metadata, as librdkafka serializes it."""
        member = f"prep\0{self.name}\0{self._instance}\0".encode()
        return MAGIC + GENERATION.pack(self.generation) + member

    def heartbeat(self, now_s: float) -> None:
        """The background thread sends one heartbeat to the broker."""
        if not self._is_subscribed or self.is_fenced:
            return
        if not self.name:
            if not self.events:  # the application must first receive what was lost
                self.name = self._group.join(self._instance, now_s).name
                self._group.heartbeat(self.name, now_s)
            return
        if self.name in self._group.fenced:
            self.is_fenced = True
            return
        if self.name not in self._group.members:
            self.name, self.generation = "", NO_GENERATION
            self.events = [("lost", set(self.assigned))] if self.assigned else []
            return
        if any(kind == "revoke" for kind, _ in self.events):
            self._group.members[self.name].seen_at = now_s
            return  # it joins again after its application has released them
        self._group.heartbeat(self.name, now_s)
        self._receive_assignments(self._group.members[self.name])

    def _receive_assignments(self, member: Member) -> None:
        while member.assignments:
            self.generation, target = member.assignments.pop(0)
            known = set(self.assigned)
            for kind, partitions in self.events:
                known = known | partitions if kind == "assign" else known - partitions
            if known - target:
                self.events.append(("revoke", known - target))
            if target - known:
                self.events.append(("assign", target - known))

    def release(self, partitions: set[Partition]) -> None:
        """Release revoked partitions, after the application has handled the revocation."""
        if self.name:
            self._group.release(self.name, partitions)

    def leave(self) -> None:
        """Leave the group; a static member stays in it until its session times out."""
        self._is_subscribed = False
        if self.name and not self._instance:
            self._group.leave(self.name)


def read_metadata(metadata: bytes) -> tuple[int, str, str]:
    """The generation, member and instance of group metadata."""
    generation = GENERATION.unpack_from(metadata, len(MAGIC))[0]
    _group, name, instance, _ = metadata[len(MAGIC) + GENERATION.size :].decode().split("\0")
    return generation, name, instance
