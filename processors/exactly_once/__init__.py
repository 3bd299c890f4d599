"""What an exactly-once consumer needs: a group member, its assignment epoch, one transaction per batch.

Nothing here knows an event.
"""
