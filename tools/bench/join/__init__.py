"""`bench join`: cjstream and its peers, in turn, on one broker and one input, with checked outputs."""
