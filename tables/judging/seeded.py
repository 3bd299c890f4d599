"""Random numbers that depend on the run's seed alone: NumPy's counter-based Philox generator."""

import numpy as np

WORD = 0xFFFFFFFFFFFFFFFF
PURPOSES = ("draws", "pairs", "order", "audit", "backoff")


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """An independent stream for each purpose and up to three counters, such as wave and attempt."""
    counter = [PURPOSES.index(purpose), *counters, *(0,) * (3 - len(counters))]
    # the first word counts blocks of random numbers: the streams differ in the upper ones and in the key
    return np.random.Generator(
        np.random.Philox(key=[seed & WORD, counter[0]], counter=[0, *counter[1:]])
    )
