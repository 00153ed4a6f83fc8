"""Blocking callers over async code, and blocking code beside an event loop."""
