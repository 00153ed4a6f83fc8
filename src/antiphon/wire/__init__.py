"""Floors 1 and 2: framing and wire formats, pure functions over bytes, no I/O."""
