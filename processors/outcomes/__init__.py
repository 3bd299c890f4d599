"""Turns a request and its context into the bytes of its outcome. Pure."""
