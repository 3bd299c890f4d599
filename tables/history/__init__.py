"""History of the table: version chains, gaps, the bulk fold of a range, and the index of uploads."""
