"""Joint augmentation of an image and its targets."""
