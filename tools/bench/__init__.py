"""`cjstream bench`: measures latencies and rates."""
