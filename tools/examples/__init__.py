"""Small programs of consumers and producers, to start from: they use Kafka, Avro and HTTP, and nothing of cjstream."""
