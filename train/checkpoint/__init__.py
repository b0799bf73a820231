"""Checkpoints.

saving         write checkpoints, and delete or slim those of older epochs
opening        read a checkpoint and check its content
compatibility  check that a checkpoint belongs to the run that resumes from it
resume         choose the newest checkpoint, and bring a run to its state
"""
