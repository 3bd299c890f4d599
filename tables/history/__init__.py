"""History of the table: version chains, gaps, and the bulk fold of a range of the log."""
