"""Uploads folded into the Faust table and into the replica.

All code that uses Faust, except the agent of batch preparation.
"""
