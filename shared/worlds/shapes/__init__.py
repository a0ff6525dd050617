"""The shapes world: images whose every factor and pixel is known."""
