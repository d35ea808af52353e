"""One invocation, from the function's name to its result."""
