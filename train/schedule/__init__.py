"""What each optimiser step is: its clips, their shape, the learning rate."""
