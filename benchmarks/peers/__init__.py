"""The service beside what a user would otherwise pick: BullMQ, Celery and arq under the same load. README.md says
how."""
