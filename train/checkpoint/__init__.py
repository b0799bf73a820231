"""Save checkpoints, read and check them, and resume from them.

saving          write checkpoints; delete those of older epochs, or their optimiser state
opening         read a checkpoint and check its content
compatibility   check that a checkpoint belongs to the run that resumes from it
resume          choose the newest checkpoint, and bring a run to its state
earlier_recipe  the recipe of the run that is resumed
"""
