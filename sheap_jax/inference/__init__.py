"""A trained model on images of all kinds: photographs, videos, avatars, viewer, export."""
