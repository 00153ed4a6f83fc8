"""Bytes to frames and back: server-sent events, lines of JSON, AWS event streams."""
