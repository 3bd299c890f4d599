"""`audit erase`: the texts of a scope deleted for good."""
