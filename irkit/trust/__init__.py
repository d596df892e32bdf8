"""Which images are clean: signatures by trusted keys over what an image really contains."""
