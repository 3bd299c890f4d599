"""Damaged records, and how they get back into their topics."""
