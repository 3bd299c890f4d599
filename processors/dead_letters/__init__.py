"""Damaged records, and the way back into their topics."""
