"""The exceptions that end a training run early, with their exit codes (see `run.exit_codes`)."""


class TrainError(ValueError):
    """Options or a checkpoint that cannot be used (exit code 2). The message is one line."""


class OtherRunError(TrainError):
    """A checkpoint of a run with other data, labels or options (exit code 2)."""


class DivergedError(RuntimeError):
    """The loss became NaN or infinite (exit code 3). The last good checkpoint is kept."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived (exit code 128 + `signum`)."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by signal {signum}; --resume auto continues from last.pth")
        self.signum = signum
