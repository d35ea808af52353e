"""What the gateway tells about itself and about the functions it runs."""
