"""The seeds of the random fault tests: one by default, five with FAULT_SEEDS=5."""

import os

SEEDS = range(1, 1 + int(os.environ.get("FAULT_SEEDS", "1")))
