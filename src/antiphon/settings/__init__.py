"""The configuration file: read, checked, and turned into settings, providers and API keys."""
