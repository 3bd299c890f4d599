"""The recipes of outcomes, by number: each says which versions of the schemas an outcome is made of.

What an outcome names as its recipe stays runnable, so that its bytes can be made again and compared.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Recipe(NamedTuple):
    """One layout of outcomes.

    spliced has each version of the request whose canonical bytes go in as they are, with the bytes that stand behind
    them: the fields that the embedded version has on top, in their defaults.
    """

    number: int
    outcome: int  # the version of CJBatchPrepared and of CJBatchUnresolved
    request: int  # the version of CJAssessmentRequested that both embed
    spliced: Mapping[int | None, bytes]


NO_DUE_TIME = b"\x00"
RECIPES = {
    1: Recipe(1, outcome=1, request=1, spliced={1: b""}),
    2: Recipe(2, outcome=2, request=2, spliced={1: NO_DUE_TIME, 2: b""}),
}
RECIPE = max(RECIPES)  # what is written now
