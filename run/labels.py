"""Make label csvs from official lists, from folders of videos, or from other frameworks' lists."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from data.annotations import published_lists as listings
from data.annotations.label_csv import PARTS, TRAIN
from data.annotations.label_csv_writer import Row, write_csvs
from data.annotations.list_licences import PUBLISHED, write_licence
from data.annotations.published_lists import Rejections, read_classes
from data.annotations.tree_labels import label_tree
from data.data_error import DataError
from data.dataset_defaults import READY_MADE, dataset_spec
from run.command_line import Parser
from run.exit_codes import command
from train.config import BELOW_ONE
from train.option_bounds import within

log = logging.getLogger(__name__)

SPLITS = (1, 2, 3)
#: For each class list in labels/: the official file, in the folder `--source`, that it comes from.
CLASS_LISTS = {
    "ucf101": "ucf101/classInd.txt",
    "hmdb51": "hmdb51/mmaction2_label_map.txt",
    "diving48": "diving48/mmaction2_label_map.txt",
    "hacs": "hacs/activitynet200_label_map.txt",
    "moments_in_time": "moments/mmaction2_mit339_label_map.txt",
    "kinetics-200": "mini_kinetics200/derived_classes.txt",
    "kinetics-400": "kinetics/label_map_k400.txt",
    "kinetics-600": "kinetics/label_map_k600.txt",
    "kinetics-700": "kinetics/label_map_k700.txt",
}
KINETICS_LISTS = {
    200: "kinetics/activitynet_kinetics-400_val.csv",  # Mini-Kinetics is a subset of it
    400: "kinetics/activitynet_kinetics-400_val.csv",
    600: "kinetics/activitynet_kinetics-600_val.csv",
    700: "kinetics/kinetics700-validate.csv",
}
MINI_KINETICS_IDS = "mini_kinetics200/val_ytid_list.txt"


def regular_expression(text: str) -> re.Pattern[str]:
    """Return an option's value as a regular expression. Raises ArgumentTypeError if it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from None


#: The arguments of the option --group, for `add_argument`.
GROUP = {
    "type": regular_expression,
    "metavar": "REGEX",
    "help": "regular expression, such as 'person[0-9]+': videos in whose names it finds the same "
    "text are of one source, which is not divided (default: usual forms of names)",
}


def class_list(name: str, folder: Path = READY_MADE) -> Path:
    """Return the path of the file that lists a dataset's classes, one per line."""
    return folder / f"{name}_classes.txt"


def build_parser() -> Parser:
    """Return the parser, which has a sub-command for each kind of list."""
    parser = Parser(prog="python -m run.labels", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True, parser_class=Parser)

    def add(name: str, work: Callable, source: str, text: str):
        sub = commands.add_parser(name, help=text, description=text)
        if source == "FILE":
            sub.add_argument("source", type=Path, nargs="+", help="these files, one or more")
        else:
            sub.add_argument("source", type=Path, help="the folder that contains them")
        sub.add_argument("--output", type=Path, default="labels", help="folder for the csvs")
        sub.set_defaults(work=work)
        return sub

    build = commands.add_parser(
        "build", help="make the csvs and class lists of this project's labels/"
    )
    build.add_argument("--source", type=Path, required=True, help="folder of the official lists")
    build.add_argument("--output", type=Path, default=READY_MADE, help="folder for the csvs")
    build.set_defaults(work=build_all)
    add("ucf101", convert_ucf101, "folder", "UCF-101's trainlist0N.txt and testlist0N.txt")
    add("hmdb51", convert_hmdb51, "folder", "HMDB-51's <class>_test_splitN.txt")
    kinetics = add("kinetics", convert_kinetics, "FILE", "Kinetics' csvs, in any of their formats")
    kinetics.add_argument(
        "--variant", type=int, default=400, choices=(200, 400, 600, 700), help="number of classes"
    )
    kinetics.add_argument(
        "--ids", type=Path, help="file of video ids, one per line; other videos are left out"
    )
    add("hacs", convert_hacs, "FILE", "HACS's csv; segments without the action (-1) are left out")
    activitynet = add(
        "activitynet",
        convert_activitynet,
        "FILE",
        "ActivityNet's json of segments, or HACS Segments'; the videos need not be cut",
    )
    activitynet.add_argument(
        "--prefix", default="", help="text before the id in the videos' names, such as v_"
    )
    mit = add("mit", convert_mit, "FILE", "Moments in Time's trainingSet.csv, validationSet.csv")
    diving = add("diving48", convert_diving48, "FILE", "Diving48's json files")
    folders = add(
        "folders",
        convert_tree,
        "folder",
        "class folders of videos or frame stores",
    )
    folders.add_argument(
        "--fraction",
        type=within(BELOW_ONE, float),
        default=0.2,
        help="share of each class that is used for validation",
    )
    folders.add_argument(
        "--seed", type=int, default=0, help="seed for choosing the validation videos"
    )
    folders.add_argument("--group", **GROUP)
    lists = add("list", convert_lists, "FILE", "files with lines `path label`")
    lists.add_argument("--classes", type=Path, help="file of class names, one per line")
    for sub in (folders, lists, activitynet):
        default = "activitynet" if sub is activitynet else "custom"
        sub.add_argument(
            "--name", default=default, help="the csvs are called NAME_train.csv and NAME_val.csv"
        )
    for sub in (kinetics, mit, diving, lists):
        text = "part for rows that do not name one (default: as in the file's name)"
        sub.add_argument("--part", choices=("train", "val", "test"), help=text)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run one sub-command and log the number of rows of each csv. Raises DataError."""
    args = build_parser().parse_args(argv)
    for path, count in args.work(args).items():
        log.info("%s: %d rows", path, count)
    if args.what in PUBLISHED:
        names = [args.what, *["mini-kinetics"] * (getattr(args, "variant", None) == 200)]
        log.info("%s: their source and licence", write_licence(args.output, *names))


def convert_ucf101(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of all three splits of UCF-101; return the rows of each."""
    return _all_splits("ucf101", listings.ucf101, args.source, args.output)


def convert_hmdb51(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of all three splits of HMDB-51; return the rows of each."""
    return _all_splits("hmdb51", listings.hmdb51, args.source, args.output)


def convert_kinetics(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of one variant of Kinetics; return the rows of each."""
    classes = read_classes(class_list(f"kinetics-{args.variant}"))
    wanted = set(listings.read_lines(args.ids)) if args.ids else None

    def rows(path: Path, rejections: Rejections) -> Iterator[Row]:
        part = args.part or _part_of(path, default=None)
        # rows of classes that Mini-Kinetics lacks are left out by the class list
        for row in listings.labelled_csv(path, rejections, part=part):
            if wanted is None or row.id in wanted:
                yield row

    return _write("kinetics", _each(args.source, rows), args.output, classes, args.variant)


def convert_hacs(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of HACS; return the rows of each."""
    classes = read_classes(class_list("hacs"))
    return _write("hacs", _each(args.source, listings.hacs), args.output, classes)


def convert_activitynet(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of segments of ActivityNet or HACS; return the rows of each."""

    def rows(path: Path, rejections: Rejections) -> Iterator[Row]:
        return listings.activitynet(path, rejections, prefix=args.prefix)

    return write_csvs(
        _each(args.source, rows), lambda part: args.output / f"{args.name}_{part}.csv"
    )


def convert_mit(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of Moments in Time; return the rows of each."""

    def rows(path: Path, rejections: Rejections) -> Iterator[Row]:
        return listings.moments(path, rejections, part=args.part or _part_of(path))

    return _write("mit", _each(args.source, rows), args.output)


def convert_diving48(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of Diving48, whose class numbers are lines of labels/diving48_classes.txt."""
    classes = read_classes(class_list("diving48"))

    def rows(path: Path, rejections: Rejections) -> Iterator[Row]:
        part = args.part or _part_of(path)
        return listings.diving48(path, rejections, part=part, classes=classes)

    return _write("diving48", _each(args.source, rows), args.output, classes)


def convert_tree(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of a tree of class folders; return the rows of each."""
    rows = label_tree(args.source, fraction=args.fraction, seed=args.seed, group=args.group)
    return write_csvs(rows, lambda part: args.output / f"{args.name}_{part}.csv")


def convert_lists(args: argparse.Namespace) -> dict[Path, int]:
    """Write the csvs of lists of paths and labels; return the rows of each."""
    classes = read_classes(args.classes) if args.classes else None

    def rows(path: Path, rejections: Rejections) -> Iterator[Row]:
        part = args.part or _part_of(path)
        return listings.path_list(path, rejections, part=part, classes=classes)

    return write_csvs(
        _each(args.source, rows), lambda part: args.output / f"{args.name}_{part}.csv", classes
    )


def build_all(args: argparse.Namespace) -> dict[Path, int]:
    """Write all csvs and class lists of labels/ from the official lists; return their rows."""
    if not args.source.is_dir():
        raise DataError(f"{args.source}: no such folder; give the folder of the official lists")
    written = {}
    for name, source in CLASS_LISTS.items():
        names = read_classes(args.source / source)
        path = class_list(name, args.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")
        written[path] = len(names)
    for name, read, folder in (
        ("ucf101", listings.ucf101, "ucf101"),
        ("hmdb51", listings.hmdb51, "hmdb51/testTrainMulti_7030_splits"),
    ):
        written |= _all_splits(name, read, args.source / folder, args.output)
    mini = set(listings.read_lines(args.source / MINI_KINETICS_IDS))
    for variant, source in KINETICS_LISTS.items():
        classes = read_classes(class_list(f"kinetics-{variant}", args.output))
        rows = _each(
            [args.source / source],
            lambda path, rejections: listings.labelled_csv(path, rejections, part="val"),
        )
        rows = (row for row in rows if variant != 200 or row.id in mini)
        written |= _write("kinetics", rows, args.output, classes, variant, ending=".csv.gz")
    return written


def _all_splits(
    name: str, read: Callable[[Path, int], Iterator[Row]], source: Path, output: Path
) -> dict[Path, int]:
    classes = read_classes(class_list(name))
    written = {}
    for split in SPLITS:
        prefix = dataset_spec(name).csv_prefix.format(split=split)
        written |= write_csvs(
            read(source, split), lambda part, p=prefix: output / f"{p}_{part}.csv", classes
        )
    return written


def _write(
    dataset: str,
    rows: Iterator[Row],
    output: Path,
    classes: list[str] | None = None,
    variant: int | None = None,
    *,
    ending: str = ".csv",
) -> dict[Path, int]:
    prefix = dataset_spec(dataset, variant).csv_prefix
    return write_csvs(rows, lambda part: output / f"{prefix}_{part}{ending}", classes)


def _each(paths: list[Path], read: Callable[[Path, Rejections], Iterator[Row]]) -> Iterator[Row]:
    """Yield the rows of several files; log the rows of each file that cannot be used."""
    for path in paths:
        rejections = Rejections()
        yield from read(path, rejections)
        rejections.log()


def _part_of(path: Path, default: str | None = "train") -> str | None:
    """Return the part in a file's name, such as trainingSet.csv, kinetics_val.csv or test.txt."""
    name = path.name.lower()
    found = [word for word in sorted(PARTS, key=len, reverse=True) if word in name]
    if not found:
        if default is None:
            return None
        raise DataError(f"{path}: its name contains neither train, val nor test; give --part")
    number = PARTS[found[0]]
    return {TRAIN: "train"}.get(number, "test" if found[0].startswith("test") else "val")


if __name__ == "__main__":
    sys.exit(command(main))
