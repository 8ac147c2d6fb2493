"""The networks, and published weights for them. The only room with flax.linen."""
