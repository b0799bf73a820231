"""The schedule of a run: clips, clip shape and learning rate of every optimiser step.

epoch_table       the clips of each epoch cut into steps, without learning rates
steps_table       the table of all steps, filled before the run; look-ups by step and by epoch
multigrid_phases  the multigrid policies: which epochs use which batch sizes and clip shapes
learning_rate     the learning rate as a function of epoch, progress and batch size
replanning        parts of a schedule that was planned anew, when a run is resumed
plan_table        what --plan and run.plan print and draw
"""
