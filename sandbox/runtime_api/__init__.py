"""The Lambda Runtime API: its bytes, its rules, and the server that joins both to a sandbox's sockets."""
