"""What routes ask for work: texts, audit, streams, metrics."""
