"""Kafka as cjstream uses it: clients, records, offsets, the transactional producer.

Nothing here knows what a request or an upload is.
"""
