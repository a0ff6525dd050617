"""Chess: endings solved exhaustively, positions and puzzles by the `chess` package's rules."""
