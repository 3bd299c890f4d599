"""The random steps of histories; some come as sequences that single random steps would form too rarely."""

import random
from typing import NamedTuple


class Step(NamedTuple):
    """One step: its kind, the worker or scope that it targets, a parameter, and the seed of its random decisions."""

    kind: str
    target: int = 0
    number: int = 0
    seed: int = 0


WEIGHTS = {
    "upload": 8,
    "open_upload": 4,
    "close_upload": 4,
    "request": 14,
    "request_in_transaction": 2,
    "forge": 3,
    "start": 5,
    "fetch": 14,
    "commit": 14,
    "work": 10,
    "crash_fetch": 1,
    "crash_commit": 3,
    "kill": 1,
    "leave": 1,
    "freeze": 2,
    "thaw": 3,
    "replace": 1,
    "thaw_replaced": 1,
    "heartbeat": 5,
    "error": 3,
    "tick": 6,
    "feed": 4,
    "marker": 4,
    "compact": 1,
    "zombie": 2,
    "takeover": 2,
    "release": 2,
    "thawed_release": 2,
}
CALLS = {"fetch", "commit", "crash_fetch", "crash_commit"}


def random_steps(seed: int, length: int) -> list[Step]:
    """The steps of the history with this seed."""
    chance = random.Random(seed)
    weights = {kind: weight * chance.choice((0, 1, 1, 3)) for kind, weight in WEIGHTS.items()}
    weights |= {kind: WEIGHTS[kind] for kind in ("request", "fetch", "commit", "work", "upload")}
    steps = [Step("start", 0), Step("work", 0, 2), Step("work", 0, 2)]
    while len(steps) < length:
        (kind,) = chance.choices(list(weights), list(weights.values()))
        target, number = chance.randrange(3), chance.randrange(1000)
        if kind in CALLS:
            number = chance.choice((0, 0, chance.randrange(1, 20)))
        if kind in SEQUENCES:
            steps += [
                step._replace(seed=chance.getrandbits(32)) for step in SEQUENCES[kind](chance)
            ]
        else:
            steps.append(Step(kind, target, number, chance.getrandbits(32)))
    return steps


def _zombie(chance: random.Random) -> list[Step]:
    """A worker freezes during its work, another takes over, and the first continues."""
    first, second = chance.sample(range(3), 2)
    step_kind = chance.choice(("fetch", "commit"))
    return [
        Step("start", second),
        Step("request", chance.randrange(3), chance.randrange(1000)),
        Step("fetch", first),
        Step(step_kind, first, chance.randrange(1, 24)),
        Step("freeze", first),
        *(Step("heartbeat", second) for _ in range(2)),
        Step("tick", 0, chance.choice((2, 3))),
        Step("tick", 0, chance.choice((2, 3))),
        *(Step("work", second, 2) for _ in range(3)),
        Step("thaw", first),
        *(Step("heartbeat", first) for _ in range(chance.randrange(2))),
        Step("commit", first),
        Step("work", first, 2),
    ]


def _takeover(chance: random.Random) -> list[Step]:
    """A worker dies during a commit or right after it, and another takes over at once."""
    first, second = chance.sample(range(3), 2)
    return [
        Step("start", second),
        Step("heartbeat", second),
        Step("upload", chance.randrange(3), chance.randrange(1000)),
        Step("fetch", first),
        Step("crash_commit", first, chance.choice((0, chance.randrange(1, 24)))),
        Step("leave", first),
        Step("start", first),
        *(Step("work", worker, 2) for worker in (second, first, second)),
    ]


def _release(chance: random.Random) -> list[Step]:
    """A request is parked, its context arrives, and its worker ends while the request is released."""
    first, second = chance.sample(range(3), 2)
    scope, partition = chance.randrange(3), chance.choice((0, 7))
    return [
        Step("start", second),
        Step("start", first),
        Step("request", scope, partition),
        *(Step("work", worker, 2) for worker in (first, second)),
        Step("upload", scope, 0),
        Step("upload", scope, 6),
        *(Step("fetch", first) for _ in range(chance.randrange(1, 4))),
        Step("commit", first),
        *(Step("fetch", first, chance.randrange(1, 12)) for _ in range(chance.randrange(2))),
        *(Step("crash_commit", first, chance.randrange(1, 12)) for _ in range(chance.randrange(2))),
        Step(chance.choice(("leave", "kill")), first),
        Step("tick", 0, chance.choice((1, 3))),
        *(Step("heartbeat", second) for _ in range(3)),
        *(Step("work", second, 2) for _ in range(2)),
    ]


def _thawed_release(chance: random.Random) -> list[Step]:
    """A worker freezes between preparing and committing a release; another takes over, and the first continues."""
    first, second = chance.sample(range(3), 2)
    scope = chance.randrange(3)
    return [
        Step("start", first),
        Step("start", second),
        Step("request", scope, 0),
        Step("request", scope, 7),
        *(Step("work", worker, 2) for worker in (first, second, first)),
        Step("upload", scope, 0),
        Step("upload", scope, 6),
        *(Step("feed", first, 2) for _ in range(2)),
        *(Step("fetch", first) for _ in range(3)),
        *(Step("commit", first, chance.randrange(1, 8)) for _ in range(chance.randrange(2))),
        Step("freeze", first),
        Step("tick", 0, 3),
        *(Step("heartbeat", second) for _ in range(3)),
        *(Step("work", second, 2) for _ in range(4)),
        Step("thaw", first),
        *(Step("commit", first) for _ in range(3)),
    ]


SEQUENCES = {
    "zombie": _zombie,
    "takeover": _takeover,
    "release": _release,
    "thawed_release": _thawed_release,
}
