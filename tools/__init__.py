"""What people run: the command line, the admin API, the auditor's commands, the embedded broker, the demo."""
