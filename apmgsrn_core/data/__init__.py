"""What networks learn: arrays, their values, masks, pieces of several ranks."""
