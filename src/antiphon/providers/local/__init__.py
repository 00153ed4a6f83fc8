"""The local model: llama.cpp, its file, the queue before it, and a process of its own for the server."""
