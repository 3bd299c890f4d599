"""What is said: events, their Avro schemas, the wire codec, the topic catalogue, grade scales, errors. No I/O."""
