"""Formats: reading files that nobody vouches for, writing files whole or not at all, pictures."""
