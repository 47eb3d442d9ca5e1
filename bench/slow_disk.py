"""A disk with 2 ms for each fsync, which is what networked volumes take: a library that is loaded before PostgreSQL.

It makes `fsync` and `fdatasync` take at least 2 ms. It is built by the C compiler of this machine; without one, or
elsewhere than on Linux, the cases of the slow disk are left out, and the bench says so.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from service.benching.pump import BenchError

SYNC_MILLISECONDS = 2
PRELOAD = "LD_PRELOAD"
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>

static void until(struct timespec end) {
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, 0) == EINTR) {}
}

static int slowly(const char *name, int descriptor) {
    int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += SYNC_MILLISECONDS * 1000000L;
    if (end.tv_nsec >= 1000000000L) { end.tv_sec += 1; end.tv_nsec -= 1000000000L; }
    int outcome = real(descriptor);
    int error = errno;
    until(end);
    errno = error;
    return outcome;
}

int fsync(int descriptor) { return slowly("fsync", descriptor); }
int fdatasync(int descriptor) { return slowly("fdatasync", descriptor); }
"""


def why_not() -> str | None:
    """Why this machine cannot have a slow disk, or None when it can."""
    if not sys.platform.startswith("linux"):
        return "it needs LD_PRELOAD, which only Linux has"
    if compiler() is None:
        return "there is no C compiler (cc, gcc or clang)"
    return None


def compiler() -> str | None:
    """The C compiler of this machine."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(directory: Path) -> Path:
    """Builds the library.

    Raises:
        BenchError: it could not be built, with what the compiler says.
    """
    source, library = directory / "slow_disk.c", directory / "slow_disk.so"
    source.write_text(SOURCE, encoding="ascii")
    command = [compiler() or "cc", "-O1", "-shared", "-fPIC", f"-DSYNC_MILLISECONDS={SYNC_MILLISECONDS}"]
    built = subprocess.run(
        [*command, "-o", str(library), str(source), "-ldl"], capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise BenchError(f"the slow disk could not be built:\n{built.stderr[-2000:]}")
    library.chmod(0o755)
    return library


@contextmanager
def preloaded(library: Path) -> Generator[None]:
    """Everything that is started meanwhile has the library."""
    before = os.environ.get(PRELOAD)
    os.environ[PRELOAD] = str(library)
    try:
        yield
    finally:
        del os.environ[PRELOAD]
        if before is not None:
            os.environ[PRELOAD] = before


def check_loaded(pid: int, library: Path) -> None:
    """Raises BenchError when a process does not have the library."""
    if str(library) not in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace"):
        raise BenchError("PostgreSQL runs without the slow disk")
