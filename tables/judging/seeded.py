"""Random numbers that depend on the run's seed alone: NumPy's counter-based Philox generator."""

import numpy as np

WORD = 0xFFFFFFFFFFFFFFFF
PURPOSES = ("draws", "pairs", "order", "audit", "backoff", "ranks", "grades")


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """An independent stream for each purpose and up to three counters, such as wave and attempt."""
    key = np.array([seed & WORD, PURPOSES.index(purpose)], np.uint64)
    # the lowest word of the counter numbers the blocks of one stream
    words = np.array([0, *counters, *(0,) * (3 - len(counters))], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=words))
