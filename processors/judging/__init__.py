"""Judges prepared batches: asks judges and commits the results. What is decided is in `tables/judging/`."""
