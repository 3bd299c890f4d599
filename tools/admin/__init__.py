"""`cjstream admin …`: the administrators' command line, a client of the admin API."""
