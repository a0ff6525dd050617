"""Where batches come from, the training loop, and its checkpoints."""
