"""Sandboxes: what a function runs in, and the Runtime API that it speaks. Knows nothing of the gateway."""
