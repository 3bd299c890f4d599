"""Checks encoded records in place, many at a time: one field table per schema, two engines that read it."""
