"""What happens: the Faust app, the fold agents, batch preparation. Kafka lives here."""
