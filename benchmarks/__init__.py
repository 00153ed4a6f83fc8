"""How fast this build is, as ratios against raw pyreqwest in the same run: `python -m benchmarks`."""
