"""The least that a nats-py service can do for a command: take the message, respond a small JSON.

What the NATS library costs. It answers inside the subscription's callback, one message after the other, without a task
for each request.
"""

import asyncio
import sys

import nats
import uvloop
from nats.aio.msg import Msg

SUBJECTS = "bench.empty.*"
ANSWER = b'{"account":"bench","replayed":false,"token":"1-1","events":[]}'


async def answer(message: Msg) -> None:
    await message.respond(ANSWER)


async def main(url: str) -> None:
    """Responds on the bench's subjects at `url` and says when it is subscribed."""
    connection = await nats.connect(url, pending_size=16 * 1024 * 1024)
    await connection.subscribe(SUBJECTS, cb=answer)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
