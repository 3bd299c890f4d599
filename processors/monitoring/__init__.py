"""The worker's watchdog and status file, and the checks behind `doctor`."""
