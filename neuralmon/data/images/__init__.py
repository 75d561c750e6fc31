"""Images in files: a folder per class, and examples to predict."""
