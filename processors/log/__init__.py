"""Reads records of topics without joining a consumer group."""
