"""One call: its parameters, its preparation, tools, the tool loop, typed answers."""
