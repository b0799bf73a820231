"""One optimiser step: forward and backward passes that fit the memory, then the update."""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.clips import normalise
from data.loading import Batch, StepPlan
from train.errors import DivergedError
from train.job import Job
from train.mixing import heavier_labels, mixed
from train.monitor import SpeedMonitor
from train.optim import set_learning_rate

log = logging.getLogger(__name__)


class StepResult(NamedTuple):
    """What a step leaves to be logged."""

    loss: float
    lr: float


def train_step(job: Job, batch: Batch, monitor: SpeedMonitor) -> StepResult:
    """One optimiser step on this process's share of a batch, in passes that fit the memory.

    Every random choice in it is drawn from (seed, step, rank).
    """
    config, devices = job.config, job.devices
    torch.manual_seed(hash((config.random_seed, job.step, devices.rank)) % 2**63)
    plan, lr = job.schedule.plan(job.step), job.schedule.lr(job.step)
    set_learning_rate(job.optimiser, lr)
    labels = devices.to_device(batch.labels)
    inputs, targets = mixed(
        normalise(devices.to_device(batch.clips)), labels, len(job.classes), config
    )
    buffers = [b.clone() for b in job.net.buffers()] if config.skippable_steps else []
    losses = torch.zeros((), dtype=torch.float64, device=devices.device)
    seen: list[Tensor] = []
    passes = number_of_passes(job, plan)
    job.norms.arrange(plan.batch // passes)
    for clips, wanted in zip(
        inputs.tensor_split(passes), targets.tensor_split(passes), strict=True
    ):
        last = len(seen) == passes - 1
        with devices.gathering(job.spread_net, last), monitor.timing("forward"), devices.autocast():
            logits = job.spread_net(clips).float()
            loss = F.cross_entropy(
                logits, wanted, reduction="sum", label_smoothing=config.label_smoothing
            )
        with devices.gathering(job.spread_net, last), monitor.timing("backward"):
            # DDP averages gradients over the processes: this makes it the mean over all clips
            job.scaler.scale(loss * (devices.world / plan.batch)).backward()
        losses += loss.detach()
        seen.append(logits.detach())
    mean = losses.item() / len(batch.labels)
    with monitor.timing("backward"):
        finite = _are_finite(job, mean, gradient_norm(job))
        if finite:
            update(job)
    if finite:
        job.meter.add(torch.cat(seen), heavier_labels(targets), losses)
    else:
        for buffer, before in zip(job.net.buffers(), buffers, strict=False):
            buffer.copy_(before)
        _leave_out(job, batch, mean, lr)
    return StepResult(mean, lr)


def number_of_passes(job: Job, plan: StepPlan) -> int:
    """In how many passes a step's share is computed: as many in every process."""
    world = job.devices.world
    per_pass = job.per_pass(plan.frames, plan.size) * max(1, job.devices.gpus)
    largest_share = -(-plan.batch // world)
    return max(1, min(-(-largest_share // per_pass), plan.batch // world))


def gradient_norm(job: Job) -> float:
    """The gradients' norm, before they are clipped if asked for; 0 where a scaler checks them."""
    if job.config.clip_grad:
        job.scaler.unscale_(job.optimiser)
        norm = nn.utils.clip_grad_norm_(job.net.parameters(), job.config.clip_grad)
    elif not job.scaler.is_enabled():
        gradients = [p.grad for p in job.net.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
    return 0.0 if job.scaler.is_enabled() else norm.item()


def update(job: Job) -> None:
    """Apply the gradients and forget them."""
    job.scaler.step(job.optimiser)
    job.scaler.update()
    job.optimiser.zero_grad(set_to_none=True)
    if job.ema:
        job.ema.update_parameters(job.net)


def _are_finite(job: Job, *values: float) -> bool:
    """Whether the values are finite in every process."""
    return not job.devices.largest([float(not all(map(math.isfinite, values)))])[0]


def _leave_out(job: Job, batch: Batch, loss: float, lr: float) -> None:
    """Forget a step whose loss is not finite. Raises DivergedError beyond `--on-nan skip:K`."""
    job.optimiser.zero_grad(set_to_none=True)
    job.skipped_steps += 1
    shape = ",".join(map(str, batch.clips.shape))
    names = [job.train_clips.videos.folder(i).name for i in batch.indices[:8].tolist()]
    what = (
        f"the loss is {loss}{' (its gradients are not finite)' if math.isfinite(loss) else ''} "
        f"at epoch {job.epoch}, step {job.step}, lr {lr:g}, batch ({shape}), "
        f"clips {', '.join(names)}{', ...' if len(batch.indices) > 8 else ''}"
    )
    if job.skipped_steps > job.config.skippable_steps:
        last = job.folder / "last.pth"
        kept = f"the last good checkpoint is {last}" if last.exists() else "none was saved yet"
        raise DivergedError(
            f"{what}; {kept}; lower --lr-base, or try --warmup-epochs 1 or --clip-grad 1"
        )
    log.warning("left out a step: %s", what)
