"""Parks requests that arrive before their context, and releases them when they are due."""
