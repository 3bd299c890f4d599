"""The engine of judging: scores, pairs, stopping, ledger and result of a run, as pure functions of its records.

No clock, no I/O; the only randomness is `seeded.py`. Calls to judges and commits belong to `processors/judging/`.
"""
