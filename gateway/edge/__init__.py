"""HTTP in, answers out; nothing is decided here."""
