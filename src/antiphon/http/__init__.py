"""HTTP/1.1 on the running event loop of asyncio: exchanges, their connections, the way out, what can fail."""
