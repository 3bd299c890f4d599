"""`audit replay`: the table rebuilt from the log, and compared with the stored rows."""
