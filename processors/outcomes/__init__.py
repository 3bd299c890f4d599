"""From a request and its context to the bytes of its outcome. Pure."""
