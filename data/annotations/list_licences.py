"""Where the published label lists come from, and under which licence.

The licences are those that the publishers state for the lists or for the repository that holds
them. They say nothing about the videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data.file_writing import write_text

CC_BY = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"


class Published(NamedTuple):
    """A published list."""

    title: str
    source: str  # who publishes it, and its address
    licence: str


#: Of the lists of each dataset, by the name of its sub-command of `run.labels`.
PUBLISHED = {
    "ucf101": Published(
        "UCF-101",
        "University of Central Florida, https://www.crcv.ucf.edu/data/UCF101.php",
        "none is stated",
    ),
    "hmdb51": Published(
        "HMDB-51",
        "Serre Lab, Brown University, http://serre-lab.clps.brown.edu/resources/HMDB/",
        CC_BY,
    ),
    "kinetics": Published(
        "Kinetics-400, -600 and -700",
        "Google DeepMind, https://deepmind.com/research/open-source/kinetics",
        CC_BY,
    ),
    "mini-kinetics": Published(
        "Mini-Kinetics-200 (a choice of ids)",
        "Saining Xie and others, https://github.com/s9xie/Mini-Kinetics-200",
        "none is stated; the rows are those of Kinetics-400",
    ),
    "hacs": Published(
        "HACS",
        "https://github.com/hangzhaomit/HACS-dataset; its 200 classes are those of ActivityNet, "
        "https://github.com/activitynet/ActivityNet",
        "BSD 3-Clause (HACS), MIT (ActivityNet)",
    ),
    "activitynet": Published(
        "ActivityNet",
        "https://github.com/activitynet/ActivityNet; HACS Segments, in the same format: "
        "https://github.com/hangzhaomit/HACS-dataset",
        "MIT (ActivityNet), BSD 3-Clause (HACS)",
    ),
    "mit": Published(
        "Moments in Time",
        "MIT, http://moments.csail.mit.edu; its class list is that of "
        "https://github.com/open-mmlab/mmaction2",
        "the lists are given to those who accept the dataset's terms; Apache 2.0 (mmaction2)",
    ),
    "diving48": Published(
        "Diving48",
        "UC San Diego, http://www.svcl.ucsd.edu/projects/resound/dataset.html; its class list is "
        "that of https://github.com/open-mmlab/mmaction2",
        "none is stated (the lists); Apache 2.0 (mmaction2)",
    ),
}


def write_licence(folder: Path, *names: str) -> Path:
    """Write `<first name>_licence.txt`, which says source and licence of lists, beside their csvs.

    Args:
        folder: the folder of the csvs.
        *names: keys of PUBLISHED.
    """
    lines = ["The label csvs beside this file were converted by `python -m run.labels` from:", ""]
    for name in names:
        title, source, licence = PUBLISHED[name]
        lines += [title, f"  source:  {source}", f"  licence: {licence}", ""]
    lines.append("Changed: columns, order of the rows, and names of the videos' folders.")
    path = folder / f"{names[0]}_licence.txt"
    write_text(path, "\n".join(lines) + "\n")
    return path
