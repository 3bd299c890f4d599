"""`audit erase`: the texts of a scope, deleted permanently."""
