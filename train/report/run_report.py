"""Compose the report of a run and write it as `report.html` into its results folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from data.file_writing import write_text
from train.report.film_strips import film_strips
from train.report.page import escaped, html_page
from train.report.run_files import SCHEDULE, RunFiles, read_run
from train.report.training_sections import command_and_data, curves, gates, summary, times
from train.report.val_predictions import write_predictions
from train.report.validation_sections import shown_clips, validation
from train.schedule.plan_table import run_curves
from train.training_run import TrainingRun

log = logging.getLogger(__name__)

NAME = "report.html"
STYLE = """
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; } figcaption { font-size: .9rem; }
.legend { font-size: .8rem; } .legend span { margin-right: .8rem; }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-right: .3rem; }
.schedule { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.class > span:last-of-type { font-size: .8rem; } .track { position: relative; }
.track i { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: #d1701f; }
.gate { grid-template-columns: minmax(0, 30%) 1fr 3rem 25%; } .gate svg { height: 1.4rem; }
.confusion { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr));
  gap: .2rem 1rem; } .confusion figcaption { grid-column: 1 / -1; font-weight: 400; }
.confusion img { width: 100%; max-width: 44rem; image-rendering: pixelated; }
.confusion ol { font-size: .8rem; columns: 10rem; margin: 0; }
table { border-collapse: collapse; font-size: .9rem; align-self: start; }
td, th { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: .8rem 1.5rem; } .film small { display: block; line-height: 1.3; }
.film div { display: grid; grid-template-columns: repeat(6, 1fr); gap: 2px; }
.film img { width: 100%; height: auto; } .film div > small { grid-column: 1 / -1; }
pre { white-space: pre-wrap; background: var(--pale); padding: .6rem; font-size: .85rem; }
dl { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .1rem 1rem;
  font-size: .9rem; } dd { margin: 0; } dt { opacity: .75; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
"""


def run_page(run: RunFiles) -> str:
    """Return the html of the report. The same files give the same page."""
    title = f"{run.config.network} on {Path(run.config.dataset).name or run.config.benchmark}"
    parts = [f"<h1>{escaped(title)}</h1>", summary(run), *curves(run)]
    parts += [*command_and_data(run), *times(run)]
    if run.predictions:
        wrong, hard = shown_clips(run.predictions)
        strips = film_strips(run.config, run.predictions, [*wrong, *hard])
        parts += validation(run, strips)
    parts += gates(run)
    return html_page(title, parts, style=STYLE)


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
        log.warning("%s cannot be written; training goes on: %s", NAME, reason)
        log.debug("the error came from here:", exc_info=True)
