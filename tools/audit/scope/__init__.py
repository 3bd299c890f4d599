"""`audit as-of` and `audit history`: the past of one assignment or course."""
