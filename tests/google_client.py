"""Google's client, some releases of which have a string that newer Pythons warn of: a warning of theirs, not ours."""

from __future__ import annotations

import warnings

with warnings.catch_warnings(action="ignore"):
    from google import genai
    from google.genai import errors, types

__all__ = ["errors", "genai", "types"]
