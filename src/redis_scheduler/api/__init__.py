"""The REST API: validates, writes and reads. It never delivers."""
