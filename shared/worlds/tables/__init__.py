"""Tables with planted patterns."""
