"""The vocabulary: messages, requests, events, answers, chunks, usage, losses."""
