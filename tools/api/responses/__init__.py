"""HTTP responses, built from values and exceptions."""
