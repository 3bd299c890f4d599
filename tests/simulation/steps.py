"""The steps of histories, drawn by chance; some come as stories, for chance alone tells them too rarely."""

import random
from typing import NamedTuple


class Step(NamedTuple):
    """One step: what, by or to whom, how much; seed is of all that chance decides in it."""

    what: str
    who: int = 0
    number: int = 0
    seed: int = 0


WEIGHTS = {
    "upload": 8,
    "open_upload": 4,
    "close_upload": 4,
    "request": 14,
    "request_in_transaction": 2,
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
    "thaw_others": 1,
    "beat": 5,
    "error": 3,
    "tick": 6,
    "feed": 4,
    "marker": 4,
    "compact": 1,
    "zombie": 2,
    "takeover": 2,
    "release": 2,
}
CALLS = {"fetch", "commit", "crash_fetch", "crash_commit"}


def drawn(seed: int, length: int) -> list[Step]:
    """The steps of one history."""
    chance = random.Random(seed)
    weights = {what: weight * chance.choice((0, 1, 1, 3)) for what, weight in WEIGHTS.items()}
    weights |= {what: WEIGHTS[what] for what in ("request", "fetch", "commit", "work", "upload")}
    steps = [Step("start", 0), Step("work", 0, 2), Step("work", 0, 2)]
    while len(steps) < length:
        (what,) = chance.choices(list(weights), list(weights.values()))
        who, number = chance.randrange(3), chance.randrange(1000)
        if what in CALLS:
            number = chance.choice((0, 0, chance.randrange(1, 20)))
        if what in STORIES:
            steps += [step._replace(seed=chance.getrandbits(32)) for step in STORIES[what](chance)]
        else:
            steps.append(Step(what, who, number, chance.getrandbits(32)))
    return steps


def _zombie(chance: random.Random) -> list[Step]:
    """A worker stands still in the middle of something, another takes over, the first goes on."""
    one, other = chance.sample(range(3), 2)
    where = chance.choice(("fetch", "commit"))
    return [
        Step("start", other),
        Step("request", chance.randrange(3), chance.randrange(1000)),
        Step("fetch", one),
        Step(where, one, chance.randrange(1, 24)),
        Step("freeze", one),
        *(Step("beat", other) for _ in range(2)),
        Step("tick", 0, chance.choice((2, 3))),
        Step("tick", 0, chance.choice((2, 3))),
        *(Step("work", other, 2) for _ in range(3)),
        Step("thaw", one),
        *(Step("beat", one) for _ in range(chance.randrange(2))),
        Step("commit", one),
        Step("work", one, 2),
    ]


def _takeover(chance: random.Random) -> list[Step]:
    """A worker dies in a commit or right after it, another takes over at once."""
    one, other = chance.sample(range(3), 2)
    return [
        Step("start", other),
        Step("beat", other),
        Step("upload", chance.randrange(3), chance.randrange(1000)),
        Step("fetch", one),
        Step("crash_commit", one, chance.choice((0, chance.randrange(1, 24)))),
        Step("leave", one),
        Step("start", one),
        *(Step("work", who, 2) for who in (other, one, other)),
    ]


def _release(chance: random.Random) -> list[Step]:
    """A request waits, its context arrives, its worker goes away while it is released."""
    one, other = chance.sample(range(3), 2)
    scope, partition = chance.randrange(3), chance.choice((0, 7))
    return [
        Step("start", other),
        Step("start", one),
        Step("request", scope, partition),
        *(Step("work", who, 2) for who in (one, other)),
        Step("upload", scope, 0),
        Step("upload", scope, 6),
        *(Step("fetch", one) for _ in range(chance.randrange(1, 4))),
        Step("commit", one),
        *(Step("fetch", one, chance.randrange(1, 12)) for _ in range(chance.randrange(2))),
        *(Step("crash_commit", one, chance.randrange(1, 12)) for _ in range(chance.randrange(2))),
        Step(chance.choice(("leave", "kill")), one),
        Step("tick", 0, chance.choice((1, 3))),
        *(Step("beat", other) for _ in range(3)),
        *(Step("work", other, 2) for _ in range(2)),
    ]


STORIES = {"zombie": _zombie, "takeover": _takeover, "release": _release}
