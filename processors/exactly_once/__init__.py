"""

hat an exactly-once consumer needs: the group member, its assignment epoch, one Kafka transaction per batch. Knows no event.
"""
