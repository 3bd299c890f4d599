"""A process that fetches committed offsets just after the group's coordinator has moved, and prints `Unreachable`.

The broker is librdkafka's mock cluster, which returns the errors that it is given.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

from processors.kafka.consumer_groups import committed_offsets
from processors.settings import Settings
from schemas.coordinates import Partition
from schemas.errors import Unreachable

OFFSET_FETCH, NOT_COORDINATOR = 9, 16
ERROR_COUNT = 20


def find_librdkafka() -> ctypes.CDLL | None:
    """The librdkafka of the installed wheel; None if it is not found."""
    folder = Path(confluent_kafka.__file__).parent
    found = [
        *folder.parent.glob("confluent_kafka.libs/librdkafka*"),
        *folder.glob(".dylibs/librdkafka*"),
    ]
    return ctypes.CDLL(str(found[0])) if found else None


@contextmanager
def mock_broker(lib: ctypes.CDLL) -> Iterator[str]:
    """One broker that answers the next OffsetFetch requests with NOT_COORDINATOR."""
    for name in ("conf_new", "new", "handle_mock_cluster"):
        getattr(lib, f"rd_kafka_{name}").restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error_text = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
    lib.rd_kafka_conf_set(conf, b"test.mock.num.brokers", b"1", error_text, ctypes.c_size_t(512))
    client = ctypes.c_void_p(lib.rd_kafka_new(0, conf, error_text, ctypes.c_size_t(512)))
    cluster = ctypes.c_void_p(lib.rd_kafka_handle_mock_cluster(client))
    errors = (ctypes.c_int * ERROR_COUNT)(*[NOT_COORDINATOR] * ERROR_COUNT)
    lib.rd_kafka_mock_push_request_errors_array(
        cluster, ctypes.c_int16(OFFSET_FETCH), ctypes.c_size_t(ERROR_COUNT), errors
    )
    yield lib.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    lib.rd_kafka_destroy(client)


def main() -> None:
    """Fetch the committed offsets once."""
    lib = find_librdkafka()
    assert lib is not None
    with mock_broker(lib) as bootstrap:
        settings = Settings(bootstrap_servers=bootstrap)
        try:
            committed_offsets(settings, "group", [Partition("topic", 0)])
        except Unreachable as fault:
            print(f"Unreachable: {fault}")  # noqa: T201


if __name__ == "__main__":
    main()
