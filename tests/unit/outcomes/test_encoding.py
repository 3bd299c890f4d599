"""The encoded parts of outcomes are those of an Avro library."""

from io import BytesIO

import fastavro
import pytest

from processors.outcomes.encoding import encode_head, long
from processors.outcomes.recipes import RECIPE
from schemas.coordinates import Coordinates

EDGES = [2**bits + step for bits in (0, 6, 13, 20, 27, 62) for step in (-1, 0, 1)]


def avro(kind: str, value: object) -> bytes:
    encoded = BytesIO()
    fastavro.schemaless_writer(encoded, {"type": kind}, value)
    return encoded.getvalue()


@pytest.mark.parametrize("number", EDGES)
def test_a_number_has_its_avro_bytes_whatever_their_count(number: int) -> None:
    assert long(number) == avro("long", number)


@pytest.mark.parametrize("offset", EDGES)
def test_a_head_has_the_coordinates_as_text_and_as_fields(offset: int) -> None:
    at = Coordinates("cj.requests.v1", 10, offset)
    expected = avro("string", str(at)) + avro("int", RECIPE) + avro("string", at.topic)
    expected += avro("int", at.partition) + avro("long", at.offset)
    assert encode_head(at, RECIPE) == expected
