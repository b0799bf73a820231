"""One optimiser step: accumulate gradients over micro-batches, then update the weights.

Nothing here waits for the device. Whether a step's loss and gradients were finite is known on the
device, where the update is switched off if they were not, and the host reads it one step later.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.clips.clip_dataset import normalise
from data.clips.loader import Batch, StepPlan
from train.distributed import no_sync, true_in_all_ranks
from train.mixing import heavier_labels, mixed
from train.optimiser import set_learning_rate, update_average
from train.speed_monitor import SpeedMonitor
from train.step_outcome import StepOutcome
from train.train_errors import DivergedError
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

#: Under fp16, a loss scale below this, or so many steps in a row whose gradients overflow, mean
#: that no scale helps. Each such step halves the scale, which starts at 65536.
SMALLEST_SCALE = 2.0**-10
MOST_OVERFLOWS = 50


def train_step(run: TrainingRun, batch: Batch, monitor: SpeedMonitor) -> StepOutcome:
    """Take one optimiser step on this rank's share of a batch.

    A step whose loss or gradients are not finite changes no weight, no optimiser state, no average,
    no score, and no buffer of the network either where the run can go on after it. The previous
    step is settled here, after this one has been started; call `settle` to look at this one too.

    Every random choice is drawn from (seed, step, rank).

    Raises:
        DivergedError: see `settle`.
    """
    config, devices = run.config, run.devices
    torch.manual_seed(hash((config.random_seed, run.step, devices.rank)) % 2**63)
    plan, lr = run.schedule.plan(run.step), run.schedule.lr(run.step)
    set_learning_rate(run.optimiser, lr)
    labels = devices.to_device(batch.labels)
    clips = normalise(devices.to_device(batch.clips))
    clips, targets = mixed(clips, labels, len(run.classes), config)
    # without loss scaling and without --on-nan skip, the run ends with a step that is not finite
    goes_on = config.skippable_steps > 0 or run.scaler.is_enabled()
    buffers_before = [buffer.clone() for buffer in run.net.buffers()] if goes_on else []

    logits, loss_sum = accumulate_gradients(run, clips, targets, plan, monitor)
    with monitor.timing("backward"):
        loss_is_finite = true_in_all_ranks(devices, torch.isfinite(loss_sum))
        applied = loss_is_finite & torch.isfinite(gradient_norm(run))
        restore_unless(applied, run.net.buffers(), buffers_before)
        update(run, applied)

    left_out = ~loss_is_finite if run.scaler.is_enabled() else ~applied
    sums_before = run.meter.sums.clone()
    run.meter.add(logits, heavier_labels(targets), loss_sum)
    restore_unless(~left_out, [run.meter.sums], [sums_before])

    numbers = [loss_sum / len(labels), applied, left_out, loss_scale(run)]
    started = StepOutcome(
        epoch=run.epoch,
        step=run.step,
        lr=lr,
        shape=tuple(batch.clips.shape),
        videos=batch.indices.tolist(),
        fetch=devices.start_copy_to_host(torch.stack([number.double() for number in numbers])),
    )
    settle(run)
    run.unchecked_step = started
    return started


def accumulate_gradients(
    run: TrainingRun, clips: Tensor, targets: Tensor, plan: StepPlan, monitor: SpeedMonitor
) -> tuple[Tensor, Tensor]:
    """Run forward and backward passes over micro-batches; the gradients add up.

    Returns:
        float32 (B, classes) logits, and the float64 sum of the clips' losses.
    """
    config, devices = run.config, run.devices
    loss_sum = torch.zeros((), dtype=torch.float64, device=devices.device)
    logits: list[Tensor] = []
    number = number_of_micro_batches(run, plan)
    run.norms.arrange(plan.batch // number)
    micro_batches = zip(clips.tensor_split(number), targets.tensor_split(number), strict=True)
    for i, (inputs, wanted) in enumerate(micro_batches):
        with no_sync(run.parallel_net, i < number - 1):
            with monitor.timing("forward"):
                outputs = run.parallel_net(inputs).float()
                loss = F.cross_entropy(
                    outputs, wanted, reduction="sum", label_smoothing=config.label_smoothing
                )
            with monitor.timing("backward"):
                # DDP averages gradients over the ranks: this makes it the mean over all clips
                run.scaler.scale(loss * (devices.world / plan.batch)).backward()
        loss_sum += loss.detach()
        logits.append(outputs.detach())
    return torch.cat(logits), loss_sum


def number_of_micro_batches(run: TrainingRun, plan: StepPlan) -> int:
    """Into how many micro-batches a step's share is divided: the same in all ranks."""
    world = run.devices.world
    clips = run.micro_batch_size(plan.frames, plan.size) * max(1, run.devices.gpus)
    largest_share = -(-plan.batch // world)
    return max(1, min(-(-largest_share // clips), plan.batch // world))


def gradient_norm(run: TrainingRun) -> Tensor:
    """Undo the loss scaling and clip the gradients if asked for; return their norm before that."""
    run.scaler.unscale_(run.optimiser)
    if run.config.clip_grad:
        return nn.utils.clip_grad_norm_(run.net.parameters(), run.config.clip_grad)
    gradients = [p.grad for p in run.net.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)


def update(run: TrainingRun, applied: Tensor) -> None:
    """Update weights and averages where `applied` (bool, on the device) is true."""
    # torch's fused optimisers read this on the device and do nothing where it is 1
    run.optimiser.found_inf = (~applied).float()
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    if run.scaler.is_enabled():
        run.scaler.update()
    if run.ema:
        update_average(run.ema, run.net, run.config.ema, applied)


def restore_unless(wanted: Tensor, tensors: Iterable[Tensor], before: Sequence[Tensor]) -> None:
    """Give `tensors` their values `before`, in place, unless `wanted` (bool, on the device)."""
    for tensor, old in zip(tensors, before, strict=bool(before)):
        tensor.copy_(torch.where(wanted, tensor, old))


def loss_scale(run: TrainingRun) -> Tensor:
    """The loss scale, on the device; 1 without loss scaling."""
    return run.scaler.scale(torch.ones((), device=run.devices.device))


def settle(run: TrainingRun) -> None:
    """Read the outcome of the step taken last, if that has not been done yet.

    Call it before saving: it is what keeps a run that has diverged from writing a checkpoint.

    Raises:
        DivergedError: its loss or gradients were not finite, once more than `--on-nan skip:K`
            allows; or, under fp16, they overflow at any loss scale.
    """
    outcome, run.unchecked_step = run.unchecked_step, None
    if outcome is None:
        return
    where = f"at {outcome.where(lambda video: run.train_clips.videos.folder(video).name)}"
    run.overflows = 0 if outcome.applied else run.overflows + 1
    if outcome.left_out:
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
