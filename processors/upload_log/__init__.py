"""Uploads appended under optimistic concurrency, by one fenced producer per partition."""
