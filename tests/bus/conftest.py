"""Fixtures for the tests of the bus."""

from collections.abc import AsyncGenerator

import nats
import pytest


async def _names(url: str, *, delete_all_but: set[str] | None = None) -> set[str]:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    try:
        names = {info.config.name or "" for info in await jetstream.streams_info()}
        for name in () if delete_all_but is None else names - delete_all_but:
            await jetstream.delete_stream(name)
    finally:
        await client.close()
    return names


@pytest.fixture(autouse=True)
async def streams_go_when_their_test_ends(request: pytest.FixtureRequest) -> AsyncGenerator[None]:
    """A stream with a limit keeps room for it, which a whole session of tests would use up."""
    if "nats_url" not in request.fixturenames:
        yield
        return
    url: str = request.getfixturevalue("nats_url")
    before = await _names(url)
    yield
    await _names(url, delete_all_but=before)
