"""Laws of the bytes: lines are RFC 8785 as others read it, each is chained to the one before, partitions are FNV-1a."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, get_args

import pytest
import rfc8785
from hypothesis import given as examples
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from events.chain import BrokenChain, verify
from events.facts import Allocation, Fact, Figures, Payment, Terms
from events.partition import partition_of
from events.pricing import PriceRule
from events.recorded import GENESIS, TYPE_OF, Actor, CommandRef, Event, Line, decode, encode, record
from tests.domain.scenario import PARTITION, Story, given
from tests.domain.shop import ACCOUNT, START, consume, direct, granted, line, refund, reserve

MOST = 2**53 - 1
# Everything that JSON may hold: control characters, quotes, characters of one to four bytes; only surrogates are none.
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
awkward = st.sampled_from(
    ['"', "\\", "/", "\x00", "\b\f\n\r\t", "\x1f\x7f\x80", "\u2028\u2029", "é", "ﬃ", "😀", "\U0010ffff"]
)
strings = st.one_of(texts, awkward, st.lists(awkward, max_size=6).map("".join))
names = st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=12)
figures = st.one_of(st.integers(0, 9), st.integers(0, MOST), st.just(MOST))


def recorded(
    fact: Fact, *, actor: str = "a", reference: str | None = None, key: str = "k", prev: str = GENESIS
) -> Line:
    return record(
        fact,
        account=ACCOUNT,
        partition=PARTITION,
        position=1,
        prev_hash=prev,
        recorded_at=START,
        actor=Actor(id=actor, via="test", on_behalf_of=reference),
        command=CommandRef(name="reserve", idempotency_key=key, fingerprint="f" * 64),
    )


def of(story: Story, kind: str) -> Fact:
    """The fact of this kind of the story's last command."""
    assert story.decision is not None
    return next(fact for fact in story.decision.facts if fact.kind == kind)


def structs_in(kind: inspect.Type) -> set[type[Any]]:
    """The structs that values of a type may have in them, and the type's own."""
    match kind:
        case inspect.StructType(cls=struct, fields=fields):
            return {struct}.union(*(structs_in(field.type) for field in fields))
        case inspect.UnionType(types=types) | inspect.TupleType(item_types=types):
            return set[type[Any]]().union(*map(structs_in, types))
        case inspect.ListType(item_type=part) | inspect.DictType(value_type=part):
            return structs_in(part)
        case _:
            return set()


def is_canonical(line: bytes) -> bool:
    return line == rfc8785.dumps(json.loads(line))


class TestCanonicalJson:
    @examples(strings, strings, strings, st.dictionaries(names, strings, max_size=5))
    def test_whatever_stands_in_its_strings_a_line_is_what_an_independent_encoder_writes(
        self, actor: str, key: str, text: str, metadata: dict[str, str]
    ) -> None:
        hold = of(given(granted("g", 9)).when(reserve(amount=5)).then("hold"), "hold")
        data: Any = hold.data
        fact = replace(hold, data=replace(data, reference=text, metadata=metadata))
        written = recorded(fact, actor=actor, key=key, reference=text)
        assert is_canonical(written.line)
        assert decode(written.line) == written.event

    @examples(figures, figures, st.dictionaries(names, st.dictionaries(names, strings, max_size=3), max_size=3))
    def test_whatever_its_figures_are_too(
        self, amount: int, delta: int, multipliers: dict[str, dict[str, str]]
    ) -> None:
        fact = of(given(granted("g", 9)).when(direct(operation="image")).then("direct"), "direct")
        data: Any = fact.data
        price = PriceRule(catalog="1", multipliers=multipliers)
        moved = replace(fact.delta["credits"], available=-delta, reserved=delta)
        changed = replace(fact, data=replace(data, charged=amount, price=price), delta={"credits": moved})
        written = recorded(changed)
        assert is_canonical(written.line)
        assert decode(written.line) == written.event

    def test_every_line_of_a_story_is_canonical(self) -> None:
        story = given(granted("g", 99), reserve(lines=(line("image", 4), line("video", 2, quality="hd", tokens="1.5"))))
        story.when(consume(amount=3, final=False)).then("partial").when(consume(amount=40)).then("settle")
        story.when(refund("r")).then("consumption")
        assert all(is_canonical(each.line) for each in story.log)

    def test_the_fields_of_all_that_stands_in_a_line_are_in_the_order_of_its_keys(self) -> None:
        structs = set[type[Any]]().union(*map(structs_in, inspect.multi_type_info(get_args(Event))))
        assert {*get_args(Event), *TYPE_OF, Figures, Allocation, PriceRule, Terms, Payment} < structs
        for struct in structs:
            fields: tuple[str, ...] = struct.__struct_encode_fields__
            assert list(fields) == sorted(fields), struct

    def test_an_event_in_another_form_is_the_same_event_and_only_its_line_is_canonical(self) -> None:
        for written in given(granted("g", 99), reserve(amount=5), consume(amount=3), refund("r")).log:
            told = json.loads(written.line)
            others = json.dumps(told).encode(), json.dumps(dict(reversed(told.items())), separators=(",", ":")).encode()
            for other in (b" " + written.line, *others):
                assert decode(other) == written.event
                assert encode(decode(other)) == written.line != other

    def test_a_type_has_one_name(self) -> None:
        assert sorted(TYPE_OF.values()) == ["consumed", "granted", "plan_changed", "refunded", "reserved"]


class TestTheHashChain:
    def story(self) -> Story:
        return given(granted("g", 99), reserve(amount=5), consume(amount=3), refund("r"))

    def lines(self) -> list[bytes]:
        return [each.line for each in self.story().log]

    def broken(self, lines: list[bytes]) -> int:
        with pytest.raises(BrokenChain) as found:
            list(verify(PARTITION, lines))
        assert found.value.partition == PARTITION
        return found.value.position

    def test_the_hash_of_a_line_is_the_next_ones_prev_hash_and_the_first_has_64_zeros(self) -> None:
        story = self.story()
        before = "0" * 64
        for written in story.log:
            assert json.loads(written.line)["prev_hash"] == before
            assert written.hash == sha256(written.line).hexdigest()
            before = written.hash

    def test_a_sound_log_verifies(self) -> None:
        assert [event.kind for event in verify(PARTITION, self.lines())] == [
            *("opened", "promo", "hold", "settle", "release", "consumption")
        ]

    def test_a_line_that_was_changed_breaks_the_chain_behind_it(self) -> None:
        for index in range(len(self.lines()) - 1):
            lines = self.lines()
            lines[index] = lines[index].replace(b'"via":"test"', b'"via":"tset"')
            assert self.broken(lines) == index + 2

    def test_a_line_that_is_missing_added_or_moved_is_found_where_it_is(self) -> None:
        lines = self.lines()
        assert self.broken([*lines[:2], *lines[3:]]) == 3
        assert self.broken([*lines[:2], lines[1], *lines[2:]]) == 3
        assert self.broken([*lines[:2], lines[3], lines[2], *lines[4:]]) == 3
        assert self.broken(lines[1:]) == 1

    def test_a_line_of_another_partition_or_with_another_id_does_not_belong(self) -> None:
        lines = self.lines()
        assert self.broken([lines[0].replace(b'"partition":3', b'"partition":4'), *lines[1:]]) == 1
        assert self.broken([lines[0].replace(b'"id":"3-1"', b'"id":"3-2"'), *lines[1:]]) == 1
        with pytest.raises(BrokenChain):
            list(verify(PARTITION + 1, lines))

    def test_a_log_that_does_not_begin_with_zeros_has_lost_its_beginning(self) -> None:
        fact = of(given(), "opened")
        assert self.broken([recorded(fact, prev="1" * 64).line]) == 1
        assert len(list(verify(PARTITION, [recorded(fact).line]))) == 1


class TestPartitions:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("", 0x811C9DC5),
            ("a", 0xE40C292C),
            ("b", 0xE70C2DE5),
            ("fo", 0x6222E842),
            ("foo", 0xA9F37ED7),
            ("foob", 0x3F5076EF),
            ("fooba", 0x39AAA18A),
            ("foobar", 0xBF9CF968),
            ("chongo was here!\n", 0xD49930D5),
        ],
    )
    def test_the_function_is_fnv_1a_by_the_vectors_of_its_authors(self, text: str, value: int) -> None:
        assert partition_of(text, 2**32) == value

    @examples(st.text(st.characters(codec="ascii"), max_size=128), st.integers(1, 4096))
    def test_a_partition_is_the_value_modulo_their_number(self, account: str, partitions: int) -> None:
        assert partition_of(account, partitions) == partition_of(account, 2**32) % partitions

    def test_accounts_spread_over_all_partitions(self) -> None:
        counts = [0] * 16
        for number in range(16_000):
            counts[partition_of(f"team-{number}", 16)] += 1
        assert min(counts) > 800
        assert max(counts) < 1200
