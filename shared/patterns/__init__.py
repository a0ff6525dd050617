"""Pattern mining by minimum description length: bit-packed data, codes, Premise, text collections, DiffNaps."""

__all__: list[str] = []
