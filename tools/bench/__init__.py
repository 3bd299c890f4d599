"""`cjstream bench`: what is promised in seconds, measured."""
