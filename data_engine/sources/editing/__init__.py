"""What policies that make pictures learn from: photographs with an edit, texts with a picture."""
