"""The worker below Celery: messages that hurry what the ledger would bring about anyway.

A message is a hint. It holds a job's id or nothing, it is acknowledged before it is acted on, and a
lost, doubled, late or invented one changes no job: whoever hears it looks into the ledger.
"""
