"""The records of judging and the results, made again from the log; and the story of one run."""
