"""The results folder: its files, its lock, the scores of all epochs, the space on its disk."""
