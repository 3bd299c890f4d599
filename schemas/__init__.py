"""Events, their Avro schemas, the codec, the topic catalogue, grade scales and errors. No I/O."""
