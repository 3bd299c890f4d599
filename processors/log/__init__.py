"""Topics read as records, outside any consumer group."""
