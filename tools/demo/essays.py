"""The demo's essays of known quality, from a template. Pure; the same seed gives the same essays.

A better letter has more reasons and more of them are supported. Its quality is what the simulated judge sees.
"""

from dataclasses import dataclass
from hashlib import sha256
from random import Random
from statistics import NormalDist

SPREAD = 1.5  # standard deviation of the qualities, in logits
OPENINGS = (
    "Dear Editor,\n\nThe council wants to close the youth centre, and I ask it not to.",
    "To the Editor\n\nI read that our youth centre may be closed. I think that would be a mistake.",
    "Dear Editor,\n\nWho asked the young people of this town before the centre was to be closed?",
)
REASONS = (  # a position, and what supports it
    ("it is the only warm place after school.", "In winter, sixty of us are there every Tuesday."),
    ("homework is done there.", "Two retired teachers help, and my own marks went up by a grade."),
    ("it costs less than people think.", "Eight crowns per visit is less than one bus ticket."),
    ("it keeps people from the car park.", "The police counted half as many calls as before."),
    ("newcomers make friends there.", "Amina learned her first Swedish words at the table tennis."),
    ("volunteers run most of it.", "Last year they gave two thousand hours for nothing."),
)
CLOSINGS = (
    "Keep it open, and ask us how to pay for it.",
    "Come on a Tuesday, count the bicycles, and then decide.",
    "I hope the council thinks again.",
)


@dataclass(frozen=True, slots=True)
class KnownEssay:
    """An essay and its quality (theta, in logits)."""

    essay_id: str
    text: str
    theta: float

    @property
    def storage_id(self) -> str:
        """The sha256 of its text."""
        return sha256(self.text.encode()).hexdigest()


def essays_of_known_quality(count: int, seed: int) -> list[KnownEssay]:
    """Essays whose qualities are the quantiles of N(0, SPREAD²), in random order."""
    random = Random(seed)
    shares = [(number + 0.5) / count for number in range(count)]
    random.shuffle(shares)
    quality = NormalDist(sigma=SPREAD).inv_cdf
    return [
        KnownEssay(f"pupil-{number:02d}", _letter(number, share, random), quality(share))
        for number, share in enumerate(shares, 1)
    ]


def _letter(number: int, share: float, random: Random) -> str:
    reasons = random.sample(REASONS, 1 + round(share * (len(REASONS) - 1)))
    supported = round(share * len(reasons))
    sentences = [
        f"We need the centre because {position}" + (f" {support}" if order < supported else "")
        for order, (position, support) in enumerate(reasons)
    ]
    body = "\n\n".join([random.choice(OPENINGS), *sentences, random.choice(CLOSINGS)])
    return f"{body}\n\nA pupil, seat {number}"
