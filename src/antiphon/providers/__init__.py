"""What answers a request: functions, providers reached over HTTP, the local model; and how each is found by name."""
