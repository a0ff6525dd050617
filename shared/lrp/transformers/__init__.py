"""What transformers need beyond linear rules: norms, gated MLPs, attention; relevance of heads. See `shared.lrp`."""
