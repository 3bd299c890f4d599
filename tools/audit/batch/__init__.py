"""`audit batch`: everything about one batch."""
