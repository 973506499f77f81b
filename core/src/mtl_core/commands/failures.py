"""Messages for failures outside of mtl: errors of the operating system, and processes that were killed."""

from __future__ import annotations

import errno

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
TERMINATED = 143
"""Exit code after SIGTERM, as shells have it."""
GO_ON = "mtl train goes on with --resume, mtl suite when it is started again"


def os_error(error: OSError) -> str:
    """One line for an error of the operating system, or an empty string for one that names no reason."""
    if error.strerror is None:
        return ""
    where = f"{error.filename}: " if error.filename is not None else ""
    other = f" (with {error.filename2})" if error.filename2 is not None else ""
    remedy = {
        errno.ENOSPC: "; free some space, then go on: " + GO_ON,
        errno.EDQUOT: "; free some space, then go on: " + GO_ON,
        errno.EACCES: "; change its permissions, or choose another folder",
        errno.EROFS: "; choose another folder",
        errno.ENOTDIR: "; a file stands where a folder is expected: move it, or choose another folder",
        errno.EISDIR: "; a folder stands where a file is expected: move it, or choose another folder",
        errno.EEXIST: "; a file stands where a folder is expected: move it, or choose another folder",
        errno.ENAMETOOLONG: "; choose a shorter name",
        errno.ELOOP: "; a link leads to itself: remove it",
    }.get(error.errno or 0, "")
    return f"{where}{error.strerror}{other}{remedy}"


_LOST = ("DataLoader worker", "Connection closed by peer", "Connection reset by peer", "Connection was reset", "gloo")
"""What torch says when another process of the run is gone; a test holds these to the installed version."""


def lost_process(error: RuntimeError) -> str:
    """One line where another process of the run was killed, or an empty string."""
    text = str(error)
    if not any(part in text for part in _LOST):
        return ""
    what = "a process that loads data" if "DataLoader worker" in text else "another process of the run"
    return f"{what} was killed (out of memory?); {GO_ON}"
