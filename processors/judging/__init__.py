"""Judges prepared batches: asks judges and commits what came of it. What is decided is in `tables/judging/`."""
