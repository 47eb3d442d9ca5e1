"""Laws of due facts: what time alone brings about, in the order of its instants, whoever comes by to write it down."""

from __future__ import annotations

from hypothesis import given as examples
from hypothesis import strategies as st

from events.decide import due_facts
from events.instants import plus
from tests.domain.scenario import Story, given
from tests.domain.shop import START, consume, direct, granted, opened, refund, release, reserve

AT_10 = "2026-11-01T10:00:00.000000Z"
TTL_TO_10 = 30 * 60 - 30  # and 30 s of grace


def told(story: Story) -> list[tuple[str, str]]:
    """The due facts of the last command: their instants and ids."""
    assert story.decision is not None
    return [(fact.effective_at or "", fact.system_id or "") for fact in story.decision.due]


def test_they_come_in_the_order_of_their_instants() -> None:
    story = given(
        granted("a", 5, expires_at="2026-11-01T09:50:00Z"),
        granted("b", 5, effective_at="2026-11-01T09:40:00Z"),
        granted("c", 5),
        reserve("r", amount=1, ttl_seconds=15 * 60),
        reserve("s", amount=1, ttl_seconds=5 * 60),
    )
    story.at(AT_10).when(granted("d", 1))
    story.then("promo", due=["hold_expired", "activated", "hold_expired", "expired"])
    assert told(story) == [
        ("2026-11-01T09:35:30.000000Z", "hold_expired:s"),
        ("2026-11-01T09:40:00.000000Z", "activated:b"),
        ("2026-11-01T09:45:30.000000Z", "hold_expired:r"),
        ("2026-11-01T09:50:00.000000Z", "expired:a"),
    ]


def test_at_the_same_instant_holds_end_then_grants_end_then_grants_start_then_by_id() -> None:
    story = given(
        granted("y", 5, effective_at=AT_10),
        granted("x", 5, effective_at=AT_10),
        granted("n", 5, expires_at=AT_10),
        granted("m", 5, expires_at=AT_10),
        reserve("s", amount=3, ttl_seconds=TTL_TO_10),
        reserve("r", amount=4, ttl_seconds=TTL_TO_10),
    )
    story.at(AT_10).when(direct(amount=10)).then(
        "direct", due=["hold_expired"] * 2 + ["expired"] * 2 + ["activated"] * 2, available=0, reserved=0
    )
    assert [system_id for _, system_id in told(story)] == [
        "hold_expired:r",
        "hold_expired:s",
        "expired:m",
        "expired:n",
        "activated:x",
        "activated:y",
    ]
    assert {instant for instant, _ in told(story)} == {AT_10}


def test_the_period_turns_after_holds_end_and_before_grants_do() -> None:
    story = given(
        opened("twin"),
        granted("ends", 5, expires_at="2026-12-01T09:30:00Z"),
        granted("starts", 5, effective_at="2026-12-01T09:30:00Z"),
    )
    story.at("2026-12-01T09:00:00.000000Z").when(reserve(amount=3, ttl_seconds=TTL_TO_10)).then("hold")
    story.at("2026-12-01T09:30:00.000000Z").when(direct(amount=1))
    story.then("direct", due=["hold_expired", "renewed", "expired", "plan", "expired", "activated"], available=124)
    assert [instant for instant, _ in told(story)] == [story.now] * 6


def test_what_a_hold_returns_at_the_very_end_of_a_grant_expires_with_it() -> None:
    story = given(granted("g", 5, expires_at=AT_10), reserve(amount=3, ttl_seconds=TTL_TO_10)).at(AT_10)
    story.when(granted("h", 1)).then("promo", due=["hold_expired", "expired"], available=1)
    assert story.data("expired").amount == -5


def test_a_grant_that_starts_when_another_ends_takes_its_place() -> None:
    story = given(granted("a", 5, expires_at=AT_10), granted("b", 5, effective_at=AT_10)).at(AT_10)
    story.when(direct(amount=6)).then_refused("insufficient_credits", available=5)
    story.when(direct(amount=5)).then("direct", due=["expired", "activated"], available=0)


def test_they_happen_at_their_instant_and_not_before() -> None:
    story = given(granted("g", 5, expires_at=AT_10)).at("2026-11-01T09:59:59.999999Z")
    story.when(granted("h", 1)).then("promo", due=[])
    story.at(AT_10).when(granted("i", 1)).then("promo", due=["expired"])


def test_they_are_written_once() -> None:
    story = given(granted("g", 5, expires_at=AT_10), reserve(amount=1)).at(AT_10)
    story.when(granted("h", 1)).then("promo", due=["hold_expired", "expired"])
    story.after(days=1).when(granted("i", 1)).then("promo", due=[])


def test_a_drained_grant_that_a_refund_fills_again_still_ends() -> None:
    """Drained, it has no end to wait for; that is looked at again when something else is due."""
    story = given(granted("g", 5, expires_at=AT_10), direct(amount=5), reserve("slot", amount=0, occupies={"slots": 1}))
    story.at("2026-11-01T09:50:00.000000Z").when(refund()).then("consumption", due=["hold_expired"], available=5)
    story.at(AT_10).balance(available=0)
    story.when(reserve(amount=1)).then_refused("insufficient_credits")
    story.when(granted("h", 1)).then("promo", due=["expired"])


def test_a_command_that_is_refused_does_not_write_them() -> None:
    story = (
        given(granted("g", 5, expires_at=AT_10)).at(AT_10).when(reserve(amount=1)).then_refused("insufficient_credits")
    )
    assert [line.event.kind for line in story.log] == ["opened", "promo"]
    story.balance(available=0)
    story.when(granted("h", 1)).then("promo", due=["expired"])


def test_a_command_meets_the_account_as_they_leave_it() -> None:
    story = given(granted("g", 5), reserve(amount=5)).after(seconds=330)
    story.when(direct(amount=5)).then("direct", due=["hold_expired"], available=0)


def test_an_ended_hold_has_no_due_fact_any_more() -> None:
    for end in (consume(), release()):
        story = given(granted("g", 5), reserve(amount=5), end).after(days=1)
        story.when(granted("h", 1)).then("promo", due=[])


def test_a_read_sees_them_before_they_are_written() -> None:
    story = given(granted("g", 5, expires_at=AT_10), reserve(amount=2)).at(AT_10)
    _, facts = due_facts(story.state, story.now, story.catalog)
    assert [(fact.kind, fact.effective_at) for fact in facts] == [
        ("hold_expired", "2026-11-01T09:35:30.000000Z"),
        ("expired", AT_10),
    ]
    story.balance(available=0, reserved=0)
    assert story.state.account.figures["credits"].reserved == 2


def test_reading_twice_sees_the_same() -> None:
    story = given(granted("g", 5, expires_at=AT_10), reserve(amount=2)).at(AT_10)
    assert due_facts(story.state, story.now, story.catalog)[1] == due_facts(story.state, story.now, story.catalog)[1]


def test_whether_they_were_written_one_by_one_or_all_at_once_makes_no_difference() -> None:
    commands = (
        granted("a", 5, expires_at="2026-11-01T09:50:00Z"),
        granted("b", 5, effective_at="2026-11-01T09:40:00Z", expires_at="2026-11-01T09:55:00Z"),
        reserve("r", amount=4, ttl_seconds=15 * 60),
        reserve("s", amount=1, ttl_seconds=5 * 60),
        direct("c", operation="image"),
    )
    often, rarely = given(granted("z", 1, priority=0), *commands), given(granted("z", 1, priority=0), *commands)
    for minute in range(10, 30):
        often.at(plus(START, seconds=60 * minute)).when(granted(f"m{minute}", 1, unit="minutes"))
    often.at(AT_10).when(refund())
    rarely.at(AT_10).when(refund())
    assert often.read().account.figures["credits"] == rarely.read().account.figures["credits"]
    for grant_id in ("a", "b", "z"):
        assert often.bucket(grant_id) == rarely.bucket(grant_id)


@examples(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 20), st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=6
    ),
    st.lists(st.integers(1, 50), max_size=4),
)
def test_no_instant_is_missed_however_the_clock_jumps(
    grants: list[tuple[int, int, int, int]], visits: list[int]
) -> None:
    """Grants that start and end, and holds that expire, at minutes of one hour; visited now and then."""

    def prepared() -> Story:
        story = given()
        for number, (length, start, hold, amount) in enumerate(grants):
            starts = plus(START, seconds=60 * start)
            ends = plus(START, seconds=60 * (start + length))
            story.when(granted(f"g{number}", amount, effective_at=starts, expires_at=ends))
            if hold and start == 0:
                story.attempt(reserve(f"r{number}", amount=amount, ttl_seconds=60 * hold - 30))
        return story

    visited, left_alone = prepared(), prepared()
    for minute in sorted(visits):
        visited.at(plus(START, seconds=60 * minute)).attempt(granted(f"m{minute}", 1, unit="minutes"))
    for story in (visited, left_alone):
        story.at(plus(START, seconds=7200)).attempt(granted("last", 1, unit="minutes"))
    system = [
        [(line.event.effective_at, line.event.command.id) for line in story.log if line.event.command.name == "system"]
        for story in (visited, left_alone)
    ]
    assert system[0] == system[1]
    assert visited.state.account.figures["credits"] == left_alone.state.account.figures["credits"]
