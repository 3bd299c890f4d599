"""`audit batch`: the whole story of one batch."""
