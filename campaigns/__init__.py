"""Long trials of a running server that are too slow for the test suite: `python -m campaigns.attack`."""
