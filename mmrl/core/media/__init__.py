"""Images and videos: one item, one decoder, for every part of the project."""
