"""`cjstream audit`: what was known, when, and proof; from topic offsets alone."""
