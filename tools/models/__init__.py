"""Models that may judge, and their prices: the files in `schemas`, the command that writes them, their reader."""
