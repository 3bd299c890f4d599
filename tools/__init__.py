"""What people run: the command line, the embedded broker, topics, the demo, the doctor."""
