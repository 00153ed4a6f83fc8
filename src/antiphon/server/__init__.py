"""The same thing as a server: an ASGI application that speaks four dialects, and what runs it.

A request comes through `door.py` (its id, its key, its bounds, the line in the log), is routed by `application.py`, and
ends in `chat.py`, or beside it in what is asked besides chats. `gateway.py` holds the settings in force; `run.py` and
`connection.py` are all that know of uvicorn.
"""
