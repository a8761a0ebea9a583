"""Training: batches, steps, placement, schedules, checkpoints, whole volumes and series."""
