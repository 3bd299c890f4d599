"""The worker: the fold, batch preparation, and all other code that uses Kafka."""
