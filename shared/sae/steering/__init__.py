"""Edits of codes, latents ranked for suppression, many units steered at once, and how well they steer."""
