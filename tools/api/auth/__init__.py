"""Who is calling: bearer tokens, their keys, and the limit on failed attempts."""
