"""From values and exceptions to HTTP responses."""
