"""The Confluent schema registry: its ids for our schemas."""
