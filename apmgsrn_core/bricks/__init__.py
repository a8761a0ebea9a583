"""Volumes in bricks: where they are, training and evaluating many of them."""
