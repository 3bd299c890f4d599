"""Requests that wait for their context."""
