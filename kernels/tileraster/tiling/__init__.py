"""Which primitives reach which tile: boxes, one sorted list for each tile, the lists in chunks. Knows no primitive."""
