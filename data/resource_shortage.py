"""Find out from an error which of the machine's resources has run out."""

from __future__ import annotations

import errno

from data.data_error import MachineError

FILES, MEMORY = "file descriptors", "memory"
#: Phrases in the errors of PyTorch, OpenCV and the C library when memory runs out.
NO_MEMORY = ("allocate memory", "insufficient memory", "not enough memory", "out of memory")
ADVICE = {
    FILES: "raise their limit (ulimit -n 4096) or use fewer --workers",
    MEMORY: "use fewer --workers or a smaller --batch-size",
    "shared memory": "enlarge /dev/shm (docker run --shm-size 8g), use fewer --workers, or "
    "--workers 0, which needs none",
    "processes": "raise their limit (ulimit -u) or use fewer --workers",
}


def shortage(error: BaseException) -> MachineError | None:
    """Return the error that names the resource whose lack caused `error`; None for other errors."""
    number, text = getattr(error, "errno", None), str(error).lower()
    # Python's message has "ancdata" in it if a file descriptor could not be received.
    if number in (errno.EMFILE, errno.ENFILE) or "too many open files" in text or "ancdata" in text:
        return shortage_of(FILES)
    if "shared memory" in text:
        return shortage_of("shared memory")
    of_memory = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    if (
        number == errno.ENOMEM
        or isinstance(error, MemoryError)
        or (of_memory and any(words in text for words in NO_MEMORY))
    ):
        return shortage_of(MEMORY)
    return None


def shortage_of(resource: str) -> MachineError:
    """Return the error that names a resource, one of ADVICE, and the remedy."""
    return MachineError(f"this machine has run out of {resource}; {ADVICE[resource]}")
