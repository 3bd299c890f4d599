"""What is known: the fold, the context row, the replica and its store, the content store. Kafka-free."""
