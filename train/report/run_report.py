"""Compose the report of a run and write it as `report.html` into its results folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from data.file_writing import write_text
from train.report.film_strips import strips_of_predictions
from train.report.page import RUN_STYLE, escaped, html_page
from train.report.run_files import SCHEDULE, RunFiles, read_run
from train.report.training_sections import command_and_data, curves, gates, summary, times
from train.report.validation_sections import shown_clips, validation
from train.results.val_predictions import write_predictions
from train.schedule.plan_table import run_curves
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

NAME = "report.html"


def run_page(run: RunFiles) -> str:
    """Return the html of the report. The same files give the same page."""
    title = f"{run.config.network} on {Path(run.config.dataset).name or run.config.benchmark}"
    parts = [f"<h1>{escaped(title)}</h1>", summary(run), *curves(run)]
    parts += [*command_and_data(run), *times(run)]
    if run.predictions:
        wrong, hard = shown_clips(run.predictions)
        strips = strips_of_predictions(run.config, run.predictions, [*wrong, *hard])
        parts += validation(run, strips)
    parts += gates(run)
    return html_page(title, parts, style=RUN_STYLE)


def write_report(folder: Path) -> Path:
    """Write the report of the run in a results folder, atomically; return its path.

    Raises:
        DataError: the folder holds no run, or one of its files is damaged.
        OSError: the file cannot be written.
    """
    path = folder / NAME
    write_text(path, run_page(read_run(folder)))
    return path


def update_report(run: TrainingRun) -> None:
    """Write the report of a run that is training, and the files that it alone needs.

    Whatever goes wrong is a warning: it must not end the training.
    """
    try:
        if run.predictions:
            write_predictions(run.folder, run.predictions, run.classes)
        curves = {name: values.tolist() for name, values in run_curves(run.schedule).items()}
        write_text(run.folder / SCHEDULE, json.dumps(curves) + "\n")
        write_report(run.folder)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("%s cannot be written; training continues: %s", NAME, reason)
        log.debug("the error came from here:", exc_info=True)
