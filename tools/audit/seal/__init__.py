"""`audit seal`: signed hashes of a range, and their verification."""
