"""One transaction of the judge process after the other. Not here: the rules of runs, judges, and the event loop."""
