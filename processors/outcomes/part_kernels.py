"""A compiled function that makes context parts of outcomes from the replica's rows, without decoding them.

A row is the newest upload of one role in its own bytes, with a head: partition (4 bytes), offset (8), append time (8),
all big endian. What becomes of a request depends only on which roles are live, and on the use of its scope; there is
one rule for each combination.
"""

from numba import njit

from processors.outcomes.splice_kernels import SHORT, put_long
from tables.scan.memory import byte_at, copy_bytes, put_byte

ROLES = 3
INSTRUCTIONS, PROMPT, RUBRIC = range(ROLES)
HEAD_BYTES = 20
# captured fields of an upload: in `places`, field n has the columns 2n and 2n + 1
FIELDS = ("version", "event_id", "storage_id", "sha256", "grade_scale", "context_origin")
VERSION, EVENT_ID, STORAGE_ID, SHA256, GRADE_SCALE, CONTEXT_ORIGIN = range(0, 2 * len(FIELDS), 2)
# columns of a rule; its constants are what follows the uploads, and what ends the part or precedes the prompt
RULE_KIND, USES_CONTEXT, MIDDLE_AT, MIDDLE_SIZE, END_AT, END_SIZE = range(6)
USES = 4  # of one scope: ScopeUse.number
SLOW_PATH = -1  # in place of a kind


@njit(nogil=True)
def _put_constant(at, constants, start, size):
    copy_bytes(at, constants + start, size)
    return at + size


@njit(nogil=True)
def _put_text(at, start, size):
    """Copy a text together with its length before it."""
    before = 1 if size < SHORT else 2
    copy_bytes(at, start - before, before + size)
    return at + before + size


@njit(nogil=True)
def _put_optional(at, base, places, column):
    """Copy a captured text as an optional one."""
    if places[column] < 0:
        put_byte(at, 0)
        return at + 1
    put_byte(at, 2)
    return _put_text(at + 1, base + places[column], places[column + 1] - places[column])


@njit(nogil=True)
def _big_endian(at, size):
    number = 0
    for place in range(size):
        number = number << 8 | byte_at(at + place)
    return number


@njit(nogil=True)
def _put_used(at, head, payload, places, constants, topic_at, topic_size):
    """Write the UploadUsed of a row."""
    at = _put_constant(at, constants, topic_at, topic_size)
    at = put_long(at, _big_endian(head, 4))
    at = put_long(at, _big_endian(head + 4, 8))
    size = places[VERSION + 1] - places[VERSION]
    copy_bytes(at, payload + places[VERSION], size)
    at += size
    size = places[EVENT_ID + 1] - places[EVENT_ID]
    at = _put_text(at, payload + places[EVENT_ID], size)
    size = places[SHA256 + 1] - places[SHA256]
    return _put_text(at, payload + places[SHA256], size)


@njit(nogil=True)
def _live_roles(first, ends, layouts, places, are_present, layout_roles):
    """A bit for each role of one scope that is live, or SLOW_PATH if a row was not scanned."""
    live = 0
    for role in range(ROLES):
        row = first + role
        if are_present[row]:
            layout = layouts[2 * row + 1]
            if layout < 0 or layout_roles[layout] != role:
                return SLOW_PATH
            if places[2 * row + 1, STORAGE_ID] >= 0:
                live |= 1 << role
    return live


# last, because it is compiled or loaded from the cache here
@njit(
    "void(int64, int64[::1], int32[::1], int32[:, ::1], uint8[::1], int64[::1],"
    " int64, int64[::1], int64[::1], int64[:, ::1], int64[::1], int64, int64, int64[::1], int64[::1])",
    cache=True,
    nogil=True,
)
def make_parts(
    base, ends, layouts, places, are_present, layout_roles,
    keys, key_ends, uses, rules, topic_ends, constants, target, part_ends, kinds,
):  # fmt: skip
    """Write the context part of each use of a scope, one after the other, and its kind; SLOW_PATH has no bytes.

    Row n of the scopes' rows, ROLES for each, is joined as two records: 2n is its head, 2n + 1 its payload. constants:
    first the upload topics as the start of an UploadUsed, which end at topic_ends.
    """
    at = target
    key = 0
    for number in range(len(uses)):
        first = ROLES * number
        live = _live_roles(first, ends, layouts, places, are_present, layout_roles)
        if live == SLOW_PATH:
            kinds[number] = SLOW_PATH
        else:
            use = uses[number]
            rule = USES * live + use
            kinds[number] = rules[rule, RULE_KIND]
            if not rules[rule, USES_CONTEXT]:
                live = 0
            if use & 1:
                live &= ~(1 << PROMPT)
            for role in range(ROLES):
                if live >> role & 1:
                    payload = 2 * (first + role) + 1
                    topic_at = topic_ends[role - 1] if role else 0
                    at = _put_used(
                        at, base + ends[payload - 1] - HEAD_BYTES, base + ends[payload - 1],
                        places[payload], constants, topic_at, topic_ends[role] - topic_at,
                    )  # fmt: skip
                else:
                    put_byte(at, 0)
                    at += 1
            if rules[rule, MIDDLE_SIZE] == 0:  # not prepared
                size = key_ends[number] - key
                at = put_long(at, size)
                copy_bytes(at, keys + key, size)
                at += size
                at = _put_constant(at, constants, rules[rule, END_AT], rules[rule, END_SIZE])
            else:
                at = _put_constant(at, constants, rules[rule, MIDDLE_AT], rules[rule, MIDDLE_SIZE])
                for role, column in (
                    (INSTRUCTIONS, STORAGE_ID),
                    (RUBRIC, STORAGE_ID),
                    (INSTRUCTIONS, GRADE_SCALE),
                    (INSTRUCTIONS, CONTEXT_ORIGIN),
                ):
                    if live >> role & 1:
                        payload = 2 * (first + role) + 1
                        at = _put_optional(at, base + ends[payload - 1], places[payload], column)
                    else:
                        put_byte(at, 0)
                        at += 1
                at = _put_constant(at, constants, rules[rule, END_AT], rules[rule, END_SIZE])
                if not use & 1:
                    payload = 2 * (first + PROMPT) + 1
                    if live >> PROMPT & 1:
                        at = _put_optional(
                            at, base + ends[payload - 1], places[payload], STORAGE_ID
                        )
                    else:
                        put_byte(at, 0)
                        at += 1
        key = key_ends[number]
        part_ends[number] = at - target
