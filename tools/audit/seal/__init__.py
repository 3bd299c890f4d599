"""`audit seal`: signed hashes of a range of the log, and their verification."""
