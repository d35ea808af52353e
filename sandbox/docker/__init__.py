"""Sandboxes that are containers of a Docker Engine. DESIGN.md here tells the whole."""
