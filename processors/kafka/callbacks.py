"""What a callback of the client must do so that its exceptions reach the caller of the client."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")


def raises_instances(callback: Callable[P, None]) -> Callable[P, None]:
    """The callback; an exception that it raises reaches the caller of `poll` or `close` as it is.

    Below Python 3.12, the client keeps an exception's value alone, and C code may raise a type with a plain string:
    the caller would get a SystemError without the reason. An exception that Python code has caught is an instance.
    """

    @wraps(callback)
    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:  # caught, it is an instance
            raise

    return call
