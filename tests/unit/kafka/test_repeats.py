"""What a healthy system does now and then is no warning; what goes on is one."""

from logging import INFO, WARNING

from processors.kafka.bounded_wait import Repeats


def test_only_what_is_repeated_without_success_is_a_warning() -> None:
    waits = Repeats(tolerated=2)
    assert [waits.next_level() for _ in range(4)] == [INFO, INFO, WARNING, WARNING]
    waits.end()
    assert waits.next_level() == INFO
