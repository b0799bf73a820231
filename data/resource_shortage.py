"""Which of the machine's resources has run out, told from the error that follows from it."""

from __future__ import annotations

import errno

from data.data_error import MachineError

FILES, MEMORY = "file descriptors", "memory"
#: What PyTorch, OpenCV and the C library write when memory cannot be had.
NO_MEMORY = ("allocate memory", "insufficient memory", "not enough memory", "out of memory")
ADVICE = {
    FILES: "raise their limit (ulimit -n 4096) or use fewer --workers",
    MEMORY: "use fewer --workers or a smaller --batch-size",
    "shared memory": "enlarge /dev/shm (docker run --shm-size 8g), use fewer --workers, or "
    "--workers 0, which needs none",
    "processes": "raise their limit (ulimit -u) or use fewer --workers",
}


def shortage(error: BaseException) -> MachineError | None:
    """The shortage that an error is a consequence of, or None where it is no such error."""
    number, text = getattr(error, "errno", None), str(error).lower()
    # "ancdata" is in what Python says if a file descriptor cannot be received
    if number in (errno.EMFILE, errno.ENFILE) or "too many open files" in text or "ancdata" in text:
        return too_little(FILES)
    if "shared memory" in text:
        return too_little("shared memory")
    of_memory = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    if (
        number == errno.ENOMEM
        or isinstance(error, MemoryError)
        or (of_memory and any(words in text for words in NO_MEMORY))
    ):
        return too_little(MEMORY)
    return None


def too_little(resource: str) -> MachineError:
    """The error that names a resource and what to do about it."""
    return MachineError(f"the machine has too little left of this: {resource}; {ADVICE[resource]}")
