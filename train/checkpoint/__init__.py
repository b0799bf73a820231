"""Checkpoints: writing, opening and checking them, choosing the one to resume from."""
