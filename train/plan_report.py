"""What a run says before its first step: its recipe and warnings, and all of --plan."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from data.data_error import DataError
from train.epoch_end import seconds_left
from train.results.disk_space import check_space, checkpoint_sizes
from train.run_clock import duration
from train.schedule.plan_table import draw_plan, plan_table
from train.step_timing import STEPS, time_steps
from train.train_errors import TrainError
from train.training_run import TrainingRun
from train.training_warnings import warnings_before

log = logging.getLogger(__name__)

PICTURE = Path("plan.png")  # of --plan, which writes nothing into the results


def report_recipe(run: TrainingRun) -> None:
    """Log the recipe and the warnings that can be given before the first step."""
    for line in run.recipe.lines():
        log.info(line)
    if run.devices.is_first:
        for warning in _warnings_of(run):
            log.warning(warning)


def report_plan(run: TrainingRun) -> None:
    """Print recipe, schedule, time, disk space and warnings; draw the schedule.

    All ranks call it, since they time a few steps together; rank 0 prints.
    """
    takes = _time_line(run)
    if not run.devices.is_first:
        return
    print("\n".join(run.recipe.lines()), plan_table(run.schedule), sep="\n\n")
    print(takes, _space_line(run), sep="\n")
    for warning in _warnings_of(run):
        print(f"warning: {warning}")
    try:
        draw_plan(run.schedule, PICTURE)
    except OSError as error:
        log.warning("the plan cannot be drawn: %s", error)
    else:
        print(f"drawn to {PICTURE.absolute()}")


def _time_line(run: TrainingRun) -> str:
    """Return how long the run will take, or why that cannot be said."""
    if run.step >= run.schedule.total_steps:
        return "the run is finished"
    if not run.clock.step_times:  # --max-minutes has timed the steps already
        try:
            time_steps(run)
        except DataError as error:
            if run.devices.world_size > 1:
                raise  # the other ranks wait for this one
            return f"the time cannot be estimated: {error}"
    left = seconds_left(run)
    return (
        f"from step {run.step:,} on it takes about {duration(left)} on {run.devices.describe()}, "
        f"with validation and saving ({STEPS - 1} steps of each clip shape were timed)"
    )


def _space_line(run: TrainingRun) -> str:
    """Return how much the checkpoints take, also where the disk has too little space for them."""
    try:
        return check_space(
            run.folder,
            run.config,
            checkpoint_sizes(run.net, run.config),
            first_epoch=run.epoch,
            last_epoch=run.schedule.epochs,
        )
    except TrainError as error:
        return f"warning: {error}"


def _warnings_of(run: TrainingRun) -> Iterator[str]:
    videos = run.train_clips.videos, run.val_clips.videos
    return warnings_before(run.config, run.schedule, *videos)
