"""What an exactly-once consumer needs: a group member, its fetch epoch, one transaction per batch.

Nothing here knows an event.
"""
