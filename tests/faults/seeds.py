"""How long the storms last: FAULT_SEEDS=5 runs every random test with five seeds; one by default."""

import os

SEEDS = range(1, 1 + int(os.environ.get("FAULT_SEEDS", "1")))
