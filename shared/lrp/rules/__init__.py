"""Rules, the linear layers they work on, and the composites that assign them; exported by `shared.lrp`."""
