"""Find the file of a source in torch.hub's folder, or download it there."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import torch

from network.network_error import NetworkError
from network.pretrained.source import Source

#: The first digits of the SHA-256 in a file name, as torch.hub looks for them.
HASH = re.compile(r"-([a-f0-9]{8,})\.")


def cached_file(source: Source) -> Path:
    """Return where the file of a source is, or will be: torch.hub's folder of checkpoints."""
    return Path(torch.hub.get_dir(), "checkpoints", source.file_name)


def weights_file(source: Source) -> Path:
    """Return the file of a source; download it if it is not there.

    A bar on the terminal shows the progress. The file appears when it is complete. If its
    name has the first digits of its hash, the hash is checked before that.

    Raises:
        NetworkError: there is no connection, the download fails, or the hash differs. The message
            says where to put the file if it is downloaded in another way.
    """
    path = cached_file(source)
    if path.is_file():
        return path
    where = f"{source.name}: {source.url} cannot be downloaded"
    cure = f"download it elsewhere and put it at {path}"
    found = HASH.search(source.file_name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            source.url, os.fspath(path), found and found[1], progress=sys.stderr.isatty()
        )
    except RuntimeError as error:
        if "invalid hash" not in str(error):
            raise
        raise NetworkError(
            f"{source.name}: the file at {source.url} has another hash than the {found[1]} in its "
            f"name, so it is damaged or was replaced; it was deleted; try again, or {cure}"
        ) from error
    except OSError as error:  # urllib's errors are OSErrors
        reason = getattr(error, "reason", None) or error.strerror or error
        raise NetworkError(f"{where} ({reason}); {cure}") from error
    return path
