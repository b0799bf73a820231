"""Train one configuration with several seeds (--seeds), and compare the runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.checkpoint.opening import load_checkpoint
from train.config import Config
from train.devices import open_devices
from train.distributed import broadcast_object
from train.loop import train_on
from train.rank_agreement import run_in_all_ranks
from train.results.earlier_run import refuse_second_start
from train.results.history import read_history
from train.results.results_folder import results_folder
from train.results.seeds_report import SeedResult, write_report
from train.signals import caught_signals
from train.train_errors import DivergedError

log = logging.getLogger(__name__)


def train_seeds(config: Config) -> Path:
    """Train with each of `config.seeds`, one after the other; return the folder of the comparison.

    Each run has a results folder of its own, so with --resume auto the same command skips what is
    finished and continues what was interrupted. The comparison is written anew after each run.

    Raises:
        DivergedError: some of the runs diverged; the others were trained all the same.
        TrainError, Interrupted: as in `train.loop.train`.
    """
    config.check()
    results: list[SeedResult] = []
    diverged: list[str] = []
    summary = results_folder(_named(config, "seeds"))
    runs = [
        replace(_named(config, f"seed-{seed}"), random_seed=seed, seeds=[]) for seed in config.seeds
    ]
    with (
        open_devices(config.gpus, config.precision, deterministic=config.deterministic) as devices,
        caught_signals() as signals,
    ):

        def refuse() -> None:
            for run in runs:
                refuse_second_start(results_folder(run), run.network)

        if config.resume == "no" and not config.overwrite:  # now: the first run may take hours
            run_in_all_ranks(devices, lambda: refuse() if devices.is_first else None)
        shared: dict[str, Any] = {}
        for number, run in enumerate(runs, 1):
            log.info("seed %d, run %d of %d", run.random_seed, number, len(runs))
            try:
                folder = train_on(replace(run, **shared), devices, signals)
            except DivergedError as error:
                log.error("seed %d: %s", run.random_seed, error)
                diverged.append(f"seed {run.random_seed}: {error}")
                continue
            if devices.is_first:
                results.append(SeedResult(run.random_seed, read_history(folder)))
                said = write_report(summary, results)
            if config.max_minutes and not shared:
                shared = broadcast_object(
                    devices, _fitted_options(folder) if devices.is_first else {}
                )
    if devices.is_first and results:
        print(said)
        log.info("compared in %s", summary)
    if diverged:
        raise DivergedError("; ".join(diverged))
    return summary


def _named(config: Config, name: str) -> Config:
    return replace(config, task_name="_".join(filter(None, (config.task_name, name))))


def _fitted_options(folder: Path) -> dict[str, Any]:
    """Return the options that --max-minutes has chosen in the first run: all have its schedule."""
    options = load_checkpoint(folder / "last.pth")["config"]
    return {"recipe": options["recipe"], "schedule_parts": options["schedule_parts"][:1]}
