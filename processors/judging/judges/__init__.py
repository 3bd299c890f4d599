"""The judges: a port, and its adapters. Each asks one question and gives back a value."""
