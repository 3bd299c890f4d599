"""`results …`: what was judged, for people and for the API: read from the log, and made again from it."""
