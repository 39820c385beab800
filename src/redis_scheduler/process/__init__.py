"""Processes: how one starts, serves its role, stops and is watched; and several under one supervisor.

In: settings, signals. Out: a running role (API, worker or both), its log and its exit code.

Only cli.py imports this room. It may import every other.
"""
