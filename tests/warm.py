"""The command line with everything imported, waiting: each command is a fork of this process.

So a test that runs a command to its end waits for the command, and not for a second of imports. What runs is a process
of its own, with the environment, directory, arguments and exit code of one that a shell starts. `tests.program` speaks
to it: a message on the socket that is standard input is a command, with the descriptors of its standard output and
error; the answer is its exit code. It ends when the other end of the socket is closed.
"""

import gc
import json
import os
import socket
import sys
from typing import cast

import service.app
import service.up  # noqa: F401 - imported for the commands, which run it
from service.cli import main
from service.late import LateGroup

MESSAGE_BYTES_MAX = 1 << 20


def command(requests: socket.socket) -> list[str] | None:
    """The arguments of the next command, in the process that runs it; None in this one, at its end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MESSAGE_BYTES_MAX, 2)
        if not message:
            return None
        child = os.fork()
        if child == 0:
            asked = json.loads(message)
            for number, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(asked["directory"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            return asked["arguments"]
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    for late in cast("LateGroup", main).late.values():
        late.command()
    gc.freeze()  # so that a fork does not copy what it only looks at
    with socket.socket(fileno=os.dup(0)) as own:
        arguments = command(own)
    if arguments is not None:
        sys.argv = ["credit-ledger", *arguments]
        main(arguments, prog_name="credit-ledger")
