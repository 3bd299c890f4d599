"""From HTTP requests to typed values: bodies, preconditions, fields."""
