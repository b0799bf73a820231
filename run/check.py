"""Check a dataset: read and decode every frame, judge videos and labels, and write a report.

The report is one html file, `<dataset>/check/report.html`. Damaged videos are also listed in
`<dataset>/bad_stores.csv`. The exit code is 2 if training would fail.

After a training, `--losses RESULTS` lists likely wrong labels instead, by the losses of its
training videos: `RESULTS/label_errors/report.html` has film strips, and `label_errors.csv` beside
it has the tenth of the videos with the highest scores.

    python -m run.check /d/data/UCF101_videos/
    python -m run.check --losses results/UCF101/srtg_r3d_34_gates_False/
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from data.augment.presets import check_pipeline
from data.dataset_defaults import DATASETS
from run.checks.crash_safe_pool import Crash, results_of
from run.checks.dataset_findings import judge_dataset
from run.checks.finding import ERROR, NOTE, as_lines, worst
from run.checks.labelled_parts import Labelled, open_parts
from run.checks.machine import check_machine
from run.checks.store_facts import StoreFacts, read_facts
from run.checks.usable_rows import usable, write_usable
from run.command_line import Parser
from run.exit_codes import BAD_INPUT, command
from run.worker_pool import add_workers, positive, report
from train.signals import caught_signals

log = logging.getLogger(__name__)

PATIENCE = 600  # seconds


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(prog="python -m run.check", description=__doc__)
    add = functools.partial(parser.add_argument, default=argparse.SUPPRESS)
    parser.add_argument("dataset", type=Path, nargs="?", help="the folder that holds jpg/")
    add(
        "--losses",
        type=Path,
        metavar="RESULTS",
        help="list likely wrong labels by the losses of the training with these results; the "
        "dataset need not be given unless it has been moved",
    )
    add(
        "--labels",
        type=Path,
        metavar="PATH",
        help="a training csv or a folder of label csvs (default: searched as for training)",
    )
    add(
        "--defaults",
        choices=tuple(DATASETS),
        help="the dataset whose label csvs and clip shape are used (default: recognised by the "
        "class folders, otherwise custom)",
    )
    add("--variant", type=int, metavar="N", help="number of classes, for Kinetics")
    parser.add_argument("--split", type=int, default=1, metavar="N", help="split of the labels")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write the rows that can be used to <dataset>/check/usable.csv: without damaged, "
        "black and one-coloured videos, repeats, and training videos that are in validation too",
    )
    parser.add_argument(
        "--augmentation",
        default="readme",
        metavar="NAME",
        help="augmentation of the contact sheets, as for training",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the report (default: <dataset>/check, or <results>/label_errors)",
    )
    parser.add_argument(
        "--no-report", action="store_true", help="write no html, which saves some seconds"
    )
    add_workers(parser)
    parser.add_argument(
        "--patience",
        type=positive,
        default=PATIENCE,
        metavar="SECONDS",
        help="give up a video that takes more seconds than this",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Check `<dataset>/jpg` and its labels.

    Raises:
        DataError: there is no dataset, or an option names something that does not exist.
        SystemExit: with exit code 2 if training would fail; 128 + signal after an interruption.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if "losses" in args:
        list_label_errors(args)
        return
    if args.dataset is None:
        parser.error("give the dataset, the folder that holds jpg/; or --losses with results")
    check_pipeline(args.augmentation)
    labelled = open_parts(
        args.dataset,
        labels=getattr(args, "labels", None),
        name=getattr(args, "defaults", None),
        variant=getattr(args, "variant", None),
        split=args.split,
    )
    facts = read_all(labelled.folders_to_read(), args.workers, args.patience)
    findings, machine = judge_dataset(labelled, facts), check_machine(args.dataset)
    output = getattr(args, "output", args.dataset / "check")
    if not args.no_report:
        write_page(output / "report.html", args, labelled, facts, findings, machine)
    shown = [f for f in (*findings, *machine) if f.level != NOTE or f in findings]
    print(as_lines(f for f in shown if f.level != "ok"))
    if args.fix:
        fix(output / "usable.csv", labelled, facts)
    bad = [(Path(fact.folder), fact.error) for fact in facts.values() if fact.error]
    report(bad, args.dataset / "bad_stores.csv", done=len(facts) - len(bad))
    if worst(findings) == ERROR:
        raise SystemExit(BAD_INPUT)


def list_label_errors(args: argparse.Namespace) -> None:
    """Write the csv and the page of likely wrong labels, and print the first ones.

    Raises:
        DataError: the results have no losses, or the dataset is another one.
    """
    from run.checks.label_errors import LISTED, as_text, find_label_errors, write_csv
    from run.checks.label_errors_page import write_label_errors  # imports torch

    found = find_label_errors(
        args.losses, dataset=args.dataset, labels=getattr(args, "labels", None)
    )
    output = getattr(args, "output", args.losses / "label_errors")
    write_csv(output / LISTED, found)
    log.info("%d of %d videos: %s", len(found.suspects), len(found.videos), output / LISTED)
    if not args.no_report:
        write_label_errors(output / "report.html", found)
        log.info("report: %s", output / "report.html")
    print(as_text(found))


def read_all(folders: list[str], workers: int, patience: float) -> dict[str, StoreFacts]:
    """Read all stores in a pool of processes; return what was found, in the order of `folders`.

    Raises:
        SystemExit: SIGINT or SIGTERM came; the exit code is 128 + signal.
    """
    facts: dict[str, StoreFacts] = {}
    with caught_signals() as signals:
        results = results_of(
            folders,
            read_facts,
            workers,
            patience=patience,
            stopped=lambda: bool(signals.number),
        )
        # disable=None: no bar where stderr is not a terminal
        for folder, found in tqdm(results, total=len(folders), unit="video", disable=None):
            if isinstance(found, Crash):
                found = StoreFacts(folder, error=f"{folder}: {found.reason}")
            if found.error:
                log.error("%s", found.error)
            facts[folder] = found
    if signals.number:
        print("interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(128 + signals.number)
    return {folder: facts[folder] for folder in folders}


def write_page(path, args, labelled: Labelled, facts, findings, machine) -> None:
    """Write the html report, with contact sheets."""
    from run.checks.contact_sheets import contact_sheets  # imports torch
    from run.checks.report_page import write_report

    write_report(
        path,
        title=f"Check of {args.dataset.absolute().name}",
        findings=findings,
        machine=machine,
        labelled=labelled,
        facts=facts,
        sheets=contact_sheets(labelled, facts, args.augmentation),
    )
    log.info("report: %s", path)


def fix(path: Path, labelled: Labelled, facts: dict[str, StoreFacts]) -> None:
    """Write the csv of usable rows, and say how to train with it."""
    counts = write_usable(path, labelled, usable(labelled, facts))
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    log.info("%s: %s rows; train with --labels %s", path, said, path)


if __name__ == "__main__":
    sys.exit(command(main))
