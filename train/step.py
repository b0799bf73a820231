"""Take one training step: forward and backward passes over micro-batches, then one update.

Nothing here waits for the device. Whether loss and gradients were finite is known on the device,
which does not update the weights if they were not; the host reads it one step later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.clips.loader import Batch, StepPlan
from train.averaged_weights import update_average
from train.distributed import no_sync, true_in_all_ranks
from train.divergence import check_last_step
from train.input_normalisation import normalised
from train.mixing import heavier_labels, mixed
from train.optimiser import set_learning_rate
from train.speed_monitor import SpeedMonitor
from train.step_outcome import StepOutcome
from train.training_run import TrainingRun


def train_step(run: TrainingRun, batch: Batch, monitor: SpeedMonitor) -> StepOutcome:
    """Take one optimiser step on this rank's part of a batch.

    A step whose loss or gradients are not finite changes no weights, averaged weights, optimiser
    state or scores. If the run can continue after it, it changes no buffers either. Only the
    previous step is checked here, after this one has been started. To check this one, call
    `check_last_step`.

    Random choices depend on (seed, step, rank) only.

    Raises:
        DivergedError: raised by `check_last_step` for the previous step.
    """
    config, devices = run.config, run.devices
    torch.manual_seed(hash((config.random_seed, run.step, devices.rank)) % 2**63)
    plan, lr = run.schedule.plan(run.step), run.schedule.lr(run.step)
    head_alone = run.schedule.is_within_first(config.head_epochs, run.step)
    set_learning_rate(run.optimiser, lr, classifier_alone=head_alone)
    labels = devices.to_device(batch.labels)
    clips = normalised(run.net, devices.to_device(batch.clips))  # float (B, 3, T, H, W)
    clips, targets = mixed(clips, labels, len(run.classes), config)
    # without loss scaling and without --on-nan skip, a step that is not finite ends the run
    continues = config.skippable_steps > 0 or run.scaler.is_enabled()
    buffers_before = [buffer.clone() for buffer in run.net.buffers()] if continues else []

    logits, loss_sum = accumulate_gradients(run, clips, targets, plan, monitor)
    with monitor.timing("backward"):
        loss_is_finite = true_in_all_ranks(devices, torch.isfinite(loss_sum))
        applied = loss_is_finite & torch.isfinite(unscale_and_clip(run))
        restore_unless(applied, run.net.buffers(), buffers_before)
        update(run, applied)

    # under fp16, gradients may overflow only because the loss scale is too large for now
    skipped = ~loss_is_finite if run.scaler.is_enabled() else ~applied
    sums_before = run.meter.sums.clone()
    run.meter.add(logits, heavier_labels(targets), loss_sum)
    restore_unless(~skipped, [run.meter.sums], [sums_before])
    run.losses.add(devices, batch, logits, skipped)

    numbers = [loss_sum / len(labels), applied, skipped, loss_scale(run)]
    this_step = StepOutcome(
        epoch=run.epoch,
        step=run.step,
        lr=lr,
        shape=tuple(batch.clips.shape),
        videos=batch.indices.tolist(),
        wait_for_numbers=devices.start_copy_to_host(
            torch.stack([number.double() for number in numbers])
        ),
    )
    check_last_step(run)
    run.unchecked_step = this_step
    return this_step


def accumulate_gradients(
    run: TrainingRun, clips: Tensor, targets: Tensor, plan: StepPlan, monitor: SpeedMonitor
) -> tuple[Tensor, Tensor]:
    """Run forward and backward passes over micro-batches; their gradients add up.

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
                run.scaler.scale(loss * (devices.world_size / plan.batch)).backward()
        loss_sum += loss.detach()
        logits.append(outputs.detach())
    return torch.cat(logits), loss_sum


def number_of_micro_batches(run: TrainingRun, plan: StepPlan) -> int:
    """Return the number of micro-batches of a step, the same in all ranks."""
    world_size = run.devices.world_size
    clips = run.micro_batch_size(plan.frames, plan.size) * max(1, run.devices.gpus)
    largest_share = -(-plan.batch // world_size)
    return max(1, min(-(-largest_share // clips), plan.batch // world_size))


def unscale_and_clip(run: TrainingRun) -> Tensor:
    """Undo the loss scaling and apply --clip-grad; return the gradients' norm before clipping."""
    run.scaler.unscale_(run.optimiser)
    if run.config.clip_grad:
        return nn.utils.clip_grad_norm_(run.net.parameters(), run.config.clip_grad)
    gradients = [p.grad for p in run.net.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)


def update(run: TrainingRun, applied: Tensor, *, average: bool = True) -> None:
    """Update weights and averaged weights if `applied` (bool, on the device) is true.

    Without `average`, the averaged weights stay as they are.
    """
    # torch's fused optimisers read this on the device and change nothing where it is 1
    run.optimiser.found_inf = (~applied).float()
    run.optimiser.step()
    run.optimiser.zero_grad(set_to_none=True)
    if run.scaler.is_enabled():
        run.scaler.update()
    if run.ema and average:
        update_average(run.ema, run.net, run.config.ema, applied)


def restore_unless(wanted: Tensor, tensors: Iterable[Tensor], before: Sequence[Tensor]) -> None:
    """Set `tensors` back to `before`, in place, where `wanted` (bool, on the device) is false."""
    for tensor, old in zip(tensors, before, strict=bool(before)):
        tensor.copy_(torch.where(wanted, tensor, old))


def loss_scale(run: TrainingRun) -> Tensor:
    """Return the loss scale, on the device; 1 without loss scaling."""
    return run.scaler.scale(torch.ones((), device=run.devices.device))
