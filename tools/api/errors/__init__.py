"""Problem documents (RFC 9457), correlation ids and validation errors."""
