"""`cjstream demo`: the whole story on a temporary broker, and the checks of its outcomes."""
