"""A Confluent-compatible schema registry: its ids for the released schemas."""
