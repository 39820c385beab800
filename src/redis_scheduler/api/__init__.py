"""The REST API: checks what clients send, writes and reads tasks, answers. It never delivers.

In: HTTP requests. Out: JSON answers with `status`, and for every error one answer (answers.py).

process may import it; it imports store, task and metrics, and never engine or delivery.
"""
