"""Training: the schedule, the loop, checkpoints, and what a run writes down."""
