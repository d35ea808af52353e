"""Container images: where they come from, what they say of themselves, and their files."""
