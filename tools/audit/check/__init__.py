"""What `audit verify` and `audit batch` share: the outcomes of a range checked against their requests and uploads."""
