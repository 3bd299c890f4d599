"""Consumes requests, prepares batches and commits each in one transaction."""
