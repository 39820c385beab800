"""One attempt over HTTP: the request of a task, the connection it goes over, what the answer means. Knows no Redis.

In: a claim. Out: an Outcome, whatever a receiver or a network does: an attempt raises nothing.

    attempt.py                     the attempt, from the claim to its outcome
    request.py, credentials.py     the bytes of the request, and where they go; what they show of who sends them
    signature.py                   signatures by Standard Webhooks
    echoes.py                      answers without the secrets that were sent
    connector.py, connection.py    opening a connection; one connection and its answer, within limits
    egress.py, proxy.py, tls.py    where connections may go, through which proxy, and whom they trust
    pool.py                        connections that are kept, and what is learnt of their receivers

engine and process may import it; it imports task.
"""
