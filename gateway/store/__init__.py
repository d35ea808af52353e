"""What survives a restart: SQLite behind a small interface."""
