"""Reference pages: those that are generated from the code, and `python -m tools.reference`, which writes them."""
