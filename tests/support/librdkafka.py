"""Makes librdkafka fail by its own means, so that a test meets the errors that the library really makes."""

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

PRODUCE, END_TXN = 0, 26  # API keys
CALL_S = 10.0
SILENT = logging.Logger("librdkafka", logging.CRITICAL + 1)

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


def refuse_next(client: Consumer | Producer, api_key: int, code: int) -> None:
    """Let the mock cluster of a client answer the next request of this kind with this error."""
    library = _library()
    library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
    library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    push = library.rd_kafka_mock_push_request_errors_array
    push.argtypes = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.c_void_p]
    handle = ctypes.c_void_p.from_address(id(client) + HEADER_BYTES)
    cluster = library.rd_kafka_handle_mock_cluster(handle)
    push(cluster, api_key, 1, (ctypes.c_int * 1)(code))


def mock_producer() -> Producer:
    """A transactional producer on a mock cluster of its own."""
    return Producer(
        {
            "bootstrap.servers": "127.0.0.1:1",
            "test.mock.num.brokers": 1,
            "transactional.id": "tests",
            "logger": SILENT,
            "error_cb": lambda _error: None,  # as in the product; else a call raises what it notes
        }
    )


def raised_by(call: Callable[[], object]) -> KafkaError:
    """The error that a call of the library raises."""
    with pytest.raises(KafkaException) as raised:
        call()
    error: KafkaError = raised.value.args[0]
    return error


def _commit_refused(api_key: int, code: int) -> KafkaError:
    producer = mock_producer()
    producer.init_transactions(CALL_S)
    producer.begin_transaction()
    refuse_next(producer, api_key, code)
    producer.produce("t", b"value", b"key")
    return raised_by(lambda: producer.commit_transaction(CALL_S))


@cache
def retriable_error() -> KafkaError:
    """A transaction's call that is not answered in time."""
    nowhere = Producer(
        {"bootstrap.servers": "127.0.0.1:1", "transactional.id": "tests", "logger": SILENT}
    )
    return raised_by(lambda: nowhere.init_transactions(0.01))


@cache
def abortable_error() -> KafkaError:
    """A commit after a record was refused."""
    return _commit_refused(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)


@cache
def fenced_error() -> KafkaError:
    """A commit after another producer has taken the transactional id."""
    return _commit_refused(END_TXN, KafkaError.PRODUCER_FENCED)


@cache
def state_error() -> KafkaError:
    """A commit without a transaction: an error without any mark."""
    producer = mock_producer()
    producer.init_transactions(CALL_S)
    return raised_by(lambda: producer.commit_transaction(CALL_S))


def fail_fatally(client: Consumer | Producer, code: int) -> None:
    """Raise a fatal error with this code in a client."""
    handle = ctypes.c_void_p.from_address(id(client) + HEADER_BYTES)
    assert _library().rd_kafka_test_fatal_error(handle, code, b"injected") == 0
