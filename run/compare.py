"""Compare the results of `run.evaluate`: is one network better, or do these videos not tell?

    python -m run.compare results/UCF101/r3d_18_gates_False results/UCF101/srtg_r3d_18_gates_False
    python -m run.compare --group plain results/A_seed-*/ --group srtg results/B_seed-*/

Each word is a configuration: a results folder with an evaluation, the folder of an evaluation, or
the folder in which the runs of several --seeds were compared. --group names one with several runs,
whose scores are given as mean and spread. All must be of the same videos and the same protocol.
The files are written into one folder:

comparison.md       scores, differences with 95 % intervals, what can be decided
comparison.png      the same as a picture
classes.csv, .png   the classes that gain and lose
scores.csv, differences.csv
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data.data_error import DataError
from run.command_line import HelpFormatter, Parser
from run.exit_codes import command

if TYPE_CHECKING:
    from run.comparing.comparison import Comparison

PAGE = "comparison.md"


def build_parser() -> Parser:
    """Return the parser of the command's options."""
    parser = Parser(
        prog="python -m run.compare", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "results", nargs="*", type=Path, help="folders of evaluations, one for each configuration"
    )
    parser.add_argument(
        "--group",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "FOLDER"),
        help="name of a configuration, and the folders of its runs; may be repeated",
    )
    parser.add_argument(
        "--unlike-protocols",
        action="store_true",
        help="compare evaluations of the same videos although their protocols differ",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        default=Path("results/comparison"),
        help="where to write; a comparison that is there is replaced",
    )
    return parser


def main(argv: list[str] | None = None) -> Comparison:
    """Compare, print and write. Returns what was computed.

    Raises:
        DataError: an evaluation cannot be read, or they cannot be compared.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    for group in args.group:
        if len(group) < 2:
            parser.error(f"--group {group[0]}: give a name and at least one folder")
    if args.out.exists() and not (args.out / PAGE).is_file():
        raise DataError(f"{args.out}: holds something else than a comparison; give another --out")
    from run.comparing.comparison import compare
    from run.comparing.comparison_files import differences_table, scores_table, write_comparison
    from run.comparing.configurations import read_configurations
    from run.evaluation.result_folder import publish

    compared = read_configurations(args.results, args.group, unlike_protocols=args.unlike_protocols)
    comparison = compare(compared)
    publish(args.out, lambda folder: write_comparison(folder, compared, comparison))
    if compared.unlike:
        print(f"the protocols differ: {compared.unlike}")
    print("\n".join([*scores_table(comparison.scores), "", *differences_table(comparison)]))
    print(f"results: {args.out}")
    return comparison


if __name__ == "__main__":
    sys.exit(command(main))
