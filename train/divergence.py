"""Stop a run whose loss or gradients are not finite, or skip such steps."""

from __future__ import annotations

import logging
import math

from train.train_errors import DivergedError
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

#: Under fp16, a loss scale below this, or so many successive steps whose gradients overflow, mean
#: that no scale helps. Each such step halves the scale, which starts at 65536.
SMALLEST_SCALE = 2.0**-10
MOST_OVERFLOWS = 50


def check_last_step(run: TrainingRun) -> None:
    """Check that the last step was finite, unless it has been checked; waits for the device.

    It is called before each save, so that a run that has diverged writes no checkpoint.

    Raises:
        DivergedError: its loss or gradients were not finite, and `--on-nan skip:K` does not allow
            another such step; or, under fp16, the gradients overflow at any loss scale.
    """
    outcome, run.unchecked_step = run.unchecked_step, None
    if outcome is None:
        return
    where = f"at {outcome.where(lambda video: run.train_clips.videos.folder(video).name)}"
    run.overflows = 0 if outcome.applied else run.overflows + 1
    if outcome.skipped:
        run.skipped_steps += 1
        gradients = " (its gradients are not finite)" if math.isfinite(outcome.loss) else ""
        what = f"the loss is {outcome.loss}{gradients} {where}"
        if run.skipped_steps > run.config.skippable_steps:
            raise DivergedError(f"{what}; {_advice(run)}")
        log.warning("left out a step: %s", what)
    if outcome.scale < SMALLEST_SCALE or run.overflows > MOST_OVERFLOWS:
        raise DivergedError(
            f"the gradients overflow at any loss scale: it fell to {outcome.scale:g} {where}, "
            f"after {run.overflows} steps in a row without an update; {_advice(run)}"
        )


def _advice(run: TrainingRun) -> str:
    last = run.folder / "last.pth"
    kept = f"the last good checkpoint is {last}" if last.exists() else "none was saved yet"
    precision = ", or --precision bf16" if run.scaler.is_enabled() else ""
    return f"{kept}; lower --lr-base, or try --warmup-epochs 1 or --clip-grad 1{precision}"
