"""`cjstream audit`: what was known, when, and proof; from the topics and the content store."""
