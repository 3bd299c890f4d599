"""

hat `audit verify` and `audit batch` share: the outcomes of a range held against their requests and uploads.
"""
