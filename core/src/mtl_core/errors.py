"""Errors that a user can correct: one clear message, exit code 2, no traceback."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_WORKER = re.compile(r"\ACaught \w+ in DataLoader worker process .*\nmtl_core\.errors\.\w+: ", re.DOTALL)
"""What torch's loader puts before the message of an error that a worker raised."""


class MtlError(Exception):
    """An error that the user can correct.

    :param message: what is wrong, where, what was expected and what to do, in one or more lines
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        # torch makes a worker's error again in the main process, with the worker's traceback for a message
        super().__init__(_WORKER.sub("", message).rstrip("\n"))


class ExperimentError(MtlError):
    """An experiment that cannot be built, with every mistake found in it.

    :param source: the file (or ``"Experiment(...)"``) that the mistakes are in
    :param problems: one line each: ``key.path: what is wrong; what was expected``
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n  ".join([f"{source}: {count}", *problems]))


class DataError(MtlError):
    """A file or folder of a data set that is missing or not of the expected form."""


class CheckpointError(MtlError):
    """A run folder or checkpoint that cannot be read or does not fit."""


class ContractError(MtlError):
    """A plugin that does not keep the contract: the message names the plugin and the hook."""


class UnusableRun(MtlError):
    """A run that has ended with numbers that must not be used."""

    exit_code = 1


class Terminated(SystemExit):
    """SIGTERM arrived: code that catches SystemExit, such as that of a plugin, must not catch this one."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``'; did you mean "x"?'`` for the known name nearest to ``name``, or an empty string."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""
