"""Canonical JSON, RFC 8785: equal values have equal bytes, so their sha256 can be compared."""

import hashlib
from typing import Any

import rfc8785

from schemas.errors import Malformed


def canonical_json(value: Any) -> bytes:
    """The canonical form of a JSON value. Raises Malformed.

    Numbers that JSON cannot hold exactly are refused: integers beyond 2^53 - 1, and numbers that are not finite.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError) as fault:
        raise Malformed(f"not canonical JSON: {type(fault).__name__}") from fault


def canonical_sha256(value: Any) -> str:
    """The sha256 of a JSON value's canonical form, in hex. Raises Malformed."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
