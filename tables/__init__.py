"""The fold, the context row, the replica and its store, the content store; no Kafka client."""
