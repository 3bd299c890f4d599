"""Uploads folded into the Faust table and into the replica.

All code that knows Faust, except the agent of batch preparation.
"""
