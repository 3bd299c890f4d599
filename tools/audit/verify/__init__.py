"""`audit verify`: every outcome of a range checked, in parallel."""
