"""The service's own alerts, as tasks: a type that no caller may give, and what stands in their records in place of
ALERT_WEBHOOK.

That URL is often a secret. Workers put it in at the attempt, so no record, list, export or log has it.
"""

ALERT_TYPE = "schedule-alert"

ALERT_ORIGIN = "https://alert-webhook.invalid"
"""No name that ends so is ever found: a worker of an older version only fails, and its retry goes to another."""

ALERT_PLACE = f"{ALERT_ORIGIN}/"
"""The webhook of a task that brings an alert."""
