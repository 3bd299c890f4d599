"""Makes librdkafka fail by its own means, so that a test meets the errors that the library really makes."""

import ctypes
from functools import cache
from pathlib import Path

import confluent_kafka
from confluent_kafka import Consumer, Producer

HEADER_BYTES = object.__basicsize__  # of a Python object: the library's handle comes next


@cache
def _library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    (path,) = folder.glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_test_fatal_error.argtypes = [
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_char_p,
    ]
    return library


def fail_fatally(client: Consumer | Producer, code: int) -> None:
    """Raise a fatal error with this code in a client."""
    handle = ctypes.c_void_p.from_address(id(client) + HEADER_BYTES)
    assert _library().rd_kafka_test_fatal_error(handle, code, b"injected") == 0
