"""How long the storms last: FAULT_SEEDS=5 runs every random test with five seeds, 2 by default."""

import os

SEEDS = range(1, 1 + int(os.environ.get("FAULT_SEEDS", "2")))
