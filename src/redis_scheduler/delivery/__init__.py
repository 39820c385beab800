"""One attempt over HTTP: the request of a task, the connection it goes over, what the answer means. Knows no Redis.

In: a claim. Out: an Outcome, whatever a receiver or a network does: an attempt raises nothing.

engine and process may import it; it imports task.
"""
