"""How a training run can end early, each with its own exit code (see `run.cli`)."""


class TrainError(ValueError):
    """Options or a checkpoint that cannot be used (exit code 2). The message is one line."""


class DivergedError(RuntimeError):
    """The loss became NaN or infinite (exit code 3). The last good checkpoint is kept."""


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived and `last.pth` was saved (exit code 128 + `signum`)."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by signal {signum}; last.pth is saved, --resume auto goes on")
        self.signum = signum
