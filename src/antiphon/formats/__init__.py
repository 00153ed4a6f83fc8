"""Wire formats, one folder each, and what they share. Pure functions in both directions; nothing here does I/O."""
