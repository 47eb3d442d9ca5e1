"""Becomes another program, as another user and bound to its parent's life. Run as a script, with the standard library only.

    python -I -S launch.py PARENT UID GID PROGRAM [ARGUMENT...]

The embedded servers (`service/embedded.py`) are started through this file. A function that runs between fork and exec
would need no second file, but it may deadlock in a process with threads; a fresh interpreter takes 15 ms and cannot.
The process id stays the same throughout, so whoever started this file has started the program.

- **User.** PostgreSQL refuses to run as root. UID and GID name the user to become; -1 keeps the present one.
- **Reach.** Root's checkout or data may lie where that user may not enter (`/root` is closed to all others). Opening
  such directories to everybody, or moving the data elsewhere, would be worse than the problem. So when the program or
  the working directory cannot be reached, and only then, the new user keeps one capability of root's: to enter and
  read directories and files (`CAP_DAC_READ_SEARCH`; a container may lack it and have `CAP_DAC_OVERRIDE` instead). It
  is an ambient capability: it survives exec, raises no other privilege, and needs no file outside to be changed.
- **Life.** When the parent dies, even by `kill -9`, the program gets SIGINT, which PostgreSQL and nats-server take as
  the wish to stop cleanly. Linux only; elsewhere the program is found and stopped by the next start.
- **Signals** are set back to their defaults: a shell starts background jobs with SIGINT ignored, and programs inherit
  that.

Exit code 125: it could not become the program; the reason is on standard error.
"""

import ctypes
import os
import signal
import sys

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

ON_LINUX = sys.platform == "linux"
EXIT_NOT_LAUNCHED = 125


def _become(uid: int, gid: int, program: str) -> None:
    """Drops root's privileges for good, but for one capability when the program is out of reach without it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if ON_LINUX:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    # access() answers for the user alone, without capabilities.
    if os.access(program, os.R_OK | os.X_OK) and os.access(os.getcwd(), os.X_OK):  # noqa: PTH109 - pathlib is slow to import
        return
    if not ON_LINUX or not any(_keep(libc, capability) for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE)):
        sys.exit(
            f"user {uid} cannot reach {program} or {os.getcwd()}: "  # noqa: PTH109 - as above
            "put the checkout and its data where every user may enter, or run as a user other than root"
        )


def _keep(libc: ctypes.CDLL, capability: int) -> bool:
    """Keeps this capability, and no other, for the program to come; false when this process never had it."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    # Twice (effective, permitted, inheritable): for the capabilities 0 to 31, and for those above.
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) != 0:
        return False
    return libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0


def _die_with(parent: int) -> None:
    """Asks the kernel for SIGINT at the parent's death; after the change of user, which would undo it."""
    if not ON_LINUX:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != parent:  # It died before we asked.
        sys.exit("the process that wanted this program has ended")


def main(arguments: list[str]) -> None:
    """Becomes the program in `arguments`; returns never."""
    parent, uid, gid = (int(argument) for argument in arguments[:3])
    program = arguments[3:]
    try:
        if uid != -1:
            _become(uid, gid, program[0])
        _die_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv(program[0], program)  # noqa: S606 - to become the program, without a shell, is the purpose
    except OSError as error:
        sys.exit(f"cannot run {program[0]} as user {os.geteuid()}: {error}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SystemExit as reason:
        sys.stderr.write(f"{reason.code}\n")
        sys.exit(EXIT_NOT_LAUNCHED)
