"""The recipes of outcomes, by number: a recipe says which schema versions an outcome consists of.

Every recipe stays runnable, so that the bytes of an old outcome can be built again and compared.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Recipe(NamedTuple):
    """One layout of outcomes.

    spliced has each request version whose canonical bytes are copied unchanged, with the bytes that follow them:
    the default values of the fields that only the embedded version has.
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
RECIPE = max(RECIPES)  # of new outcomes
