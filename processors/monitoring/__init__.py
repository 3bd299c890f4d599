"""Is the worker making progress? The watchdog, and the checks behind `doctor`."""
