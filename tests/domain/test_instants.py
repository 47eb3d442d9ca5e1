"""Laws of instants and periods: one text for one time, text order is time order, the grid hangs on its anchor."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given, reject
from hypothesis import strategies as st

from events.instants import Instant, instant, moment, parse, plus
from events.periods import Interval, boundary, parse_interval, period_at

FIRST = datetime(1970, 1, 1)  # noqa: DTZ001 - hypothesis wants naive bounds and adds the time zone itself
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - the same

moments = st.datetimes(FIRST, LAST, timezones=st.just(UTC))
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
intervals = st.one_of(
    st.sampled_from(["month", "year"]),
    st.integers(1, 3653).map("{}d".format),
    st.integers(1, 10_000_000).map("{}s".format),
)
# Anchors and numbers that keep a boundary inside the years 1970 to 9999, whatever the interval.
anchors = st.datetimes(datetime(2970, 1, 1), datetime(5000, 1, 1), timezones=st.just(UTC)).map(instant)  # noqa: DTZ001
numbers = st.integers(-90, 400)
# Instants whose period, of ten years at most, lies inside these years as a whole.
insiders = st.datetimes(datetime(1990, 1, 1), datetime(9980, 1, 1), timezones=st.just(UTC)).map(instant)  # noqa: DTZ001


def written_like(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TestOneTextForOneTime:
    @given(moments)
    def test_an_instant_is_the_fixed_form_and_gives_its_moment_back(self, at: datetime) -> None:
        text = instant(at)
        assert text == written_like(at)
        assert len(text) == 27
        assert moment(text) == at
        assert moment(text).utcoffset() == timedelta(0)

    @given(moments, moments)
    def test_text_order_is_time_order(self, one: datetime, other: datetime) -> None:
        assert (instant(one) < instant(other)) == (one < other)
        assert (instant(one) == instant(other)) == (one == other)

    @given(st.datetimes(FIRST.replace(year=1971), LAST.replace(year=9998), timezones=offsets))
    def test_the_offset_does_not_show_in_the_instant(self, at: datetime) -> None:
        assert instant(at) == written_like(at.astimezone(UTC))
        assert parse(at.isoformat()) == instant(at)

    @given(moments)
    def test_parse_gives_a_canonical_text_back_unchanged(self, at: datetime) -> None:
        assert parse(instant(at)) == instant(at)

    def test_a_naive_datetime_names_no_instant(self) -> None:
        with pytest.raises(ValueError, match="time zone"):
            instant(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test

    @pytest.mark.parametrize(
        "outside",
        [
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            datetime(9999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))),
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        ],
    )
    def test_a_moment_outside_the_years_is_refused(self, outside: datetime) -> None:
        with pytest.raises(ValueError, match="1970 to 9999"):
            instant(outside)


class TestWhatACallerMayWrite:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-11-01T09:30:00Z", "2026-11-01T09:30:00.000000Z"),
            ("2026-11-01t09:30:00z", "2026-11-01T09:30:00.000000Z"),
            ("2026-11-01T09:30:00.5Z", "2026-11-01T09:30:00.500000Z"),
            ("2026-11-01T09:30:00.000001+00:00", "2026-11-01T09:30:00.000001Z"),
            ("2026-11-01T00:30:00+02:00", "2026-10-31T22:30:00.000000Z"),
            ("2026-12-31T23:30:00-01:15", "2027-01-01T00:45:00.000000Z"),
            ("2026-11-01T09:30:00-00:00", "2026-11-01T09:30:00.000000Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ],
    )
    def test_rfc_3339_with_an_offset_is_read(self, text: str, expected: str) -> None:
        assert parse(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "2026-11-01",
            "2026-11-01T09:30:00",
            "2026-11-01 09:30:00Z",
            "2026-11-01T09:30Z",
            "2026-11-01T09:30:00.Z",
            "2026-11-01T09:30:00,5Z",
            "2026-11-01T09:30:00.1234567Z",
            "2026-11-01T09:30:00.0000000Z",
            "2026-11-01T09:30:00+0200",
            "2026-11-01T09:30:00+02",
            "2026-11-01T09:30:00+24:00",
            "2026-11-01T09:30:00+02:60",
            "2026-11-01T09:30:00Z\n",
            " 2026-11-01T09:30:00Z",
            "2026-11-01T09:30:00ZZ",
            "2026-11-01T24:00:00Z",
            "2026-11-01T09:60:00Z",
            "2026-06-30T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-W44-7T09:30:00Z",
            "20261101T093000Z",
            "+2026-11-01T09:30:00Z",
            "12026-11-01T09:30:00Z",
            "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:30:00-01:00",
            "1970-01-01T00:30:00+01:00",
            "9999-12-31T23:30:00-01:00",
            "\u0662\u0660\u0662\u0666-11-01T09:30:00Z",
            "2026-11-01T09:30:00\uff3a",
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"instant|calendar|offset"):
            parse(text)

    @given(st.text(max_size=40))
    def test_no_text_breaks_the_parser(self, text: str) -> None:
        try:
            parsed = parse(text)
        except ValueError:
            return
        assert parse(parsed) == parsed


class TestADurationAfterAnInstant:
    @given(moments, st.integers(-(10**9), 10**9))
    @example(datetime(2024, 2, 28, 23, 59, 59, 999_999, tzinfo=UTC), 1)
    @example(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), 1)
    def test_plus_is_exact_and_reversible(self, at: datetime, seconds: int) -> None:
        try:
            expected = at + timedelta(seconds=seconds)
        except OverflowError:
            reject()
        assume(expected.year >= 1970)
        later = plus(instant(at), seconds=seconds)
        assert later == written_like(expected)
        assert plus(later, seconds=-seconds) == instant(at)

    @pytest.mark.parametrize(
        ("start", "seconds"),
        [
            ("9999-12-31T23:59:59.000000Z", 1),
            ("1970-01-01T00:00:00.000000Z", -1),
            ("2026-01-01T00:00:00.000000Z", 10**18),
            ("2026-01-01T00:00:00.000000Z", -(10**18)),
        ],
    )
    def test_plus_refuses_what_leaves_the_years(self, start: str, seconds: int) -> None:
        with pytest.raises(ValueError, match="1970 to 9999"):
            plus(Instant(start), seconds=seconds)


class TestIntervals:
    @pytest.mark.parametrize(
        ("text", "interval"),
        [
            ("month", Interval(1, 0)),
            ("year", Interval(12, 0)),
            ("30d", Interval(0, 30 * 86_400)),
            ("90s", Interval(0, 90)),
            ("3653d", Interval(0, 3653 * 86_400)),
        ],
    )
    def test_the_four_forms_are_read(self, text: str, interval: Interval) -> None:
        assert parse_interval(text) == interval

    @pytest.mark.parametrize(
        "text",
        [
            *("", "0d", "0s", "-1d", "+1d", "1.5d", "1h", "d", "1month", "2years", "Month", "months", "30 d", "030d"),
            *("30d\n", " 30d", "\u0663d", "3654d", "9999999999s", "99999999999999999999s"),
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="interval"):
            parse_interval(text)


class TestTheGridOfPeriods:
    @pytest.mark.parametrize(
        ("anchor", "interval", "days"),
        [
            ("2026-01-31", "month", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
            ("2024-01-31", "month", ["2024-01-31", "2024-02-29", "2024-03-31"]),
            ("2023-12-30", "month", ["2023-12-30", "2024-01-30", "2024-02-29", "2024-03-30"]),
            ("2024-02-29", "year", ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]),
            ("2024-02-01", "30d", ["2024-02-01", "2024-03-02", "2024-04-01"]),
            ("2096-02-29", "year", ["2096-02-29", "2097-02-28", "2098-02-28", "2099-02-28", "2100-02-28"]),
        ],
    )
    def test_a_day_is_clamped_to_its_month_and_comes_back(self, anchor: str, interval: str, days: list[str]) -> None:
        start = Instant(f"{anchor}T09:30:00.000001Z")
        assert [boundary(start, interval, n)[:10] for n in range(len(days))] == days
        assert {boundary(start, interval, n)[10:] for n in range(len(days))} == {"T09:30:00.000001Z"}

    @given(anchors, numbers)
    def test_month_and_year_boundaries_are_the_anchors_day_or_the_months_last(self, anchor: Instant, n: int) -> None:
        for interval, months in (("month", 1), ("year", 12)):
            start, end = moment(anchor), moment(boundary(anchor, interval, n))
            assert (end.year - start.year) * 12 + end.month - start.month == n * months
            assert end.day == min(start.day, monthrange(end.year, end.month)[1])
            assert end.time() == start.time()

    @given(anchors, intervals, numbers)
    def test_boundaries_rise_with_their_number_and_begin_at_the_anchor(
        self, anchor: Instant, interval: str, n: int
    ) -> None:
        assert boundary(anchor, interval, 0) == anchor
        assert boundary(anchor, interval, n) < boundary(anchor, interval, n + 1)

    @given(anchors, intervals, numbers)
    def test_period_at_is_the_inverse_of_boundary(self, anchor: Instant, interval: str, n: int) -> None:
        start, end = boundary(anchor, interval, n), boundary(anchor, interval, n + 1)
        last = instant(moment(end) - timedelta(microseconds=1))
        assert period_at(anchor, interval, start) == n
        assert period_at(anchor, interval, last) == n
        assert period_at(anchor, interval, end) == n + 1

    @given(anchors, intervals, insiders)
    @example(Instant("2026-01-31T00:00:00.000000Z"), "month", Instant("2026-02-27T23:59:59.999999Z"))
    @example(Instant("2026-01-31T00:00:00.000000Z"), "month", Instant("2026-02-28T00:00:00.000000Z"))
    @example(Instant("2024-02-29T12:00:00.000000Z"), "year", Instant("2023-02-28T11:59:59.999999Z"))
    def test_any_instant_lies_in_the_period_it_is_given(self, anchor: Instant, interval: str, at: Instant) -> None:
        n = period_at(anchor, interval, at)
        assert boundary(anchor, interval, n) <= at < boundary(anchor, interval, n + 1)

    def test_the_last_instant_of_the_calendar_has_a_period(self) -> None:
        anchor, last = Instant("2026-01-31T00:00:00.000000Z"), Instant("9999-12-31T23:59:59.999999Z")
        assert period_at(anchor, "month", last) == (9999 - 2026) * 12 + 11
        assert period_at(anchor, "year", last) == 9999 - 2026

    def test_before_the_anchor_the_number_is_negative(self) -> None:
        anchor = Instant("2026-03-31T00:00:00.000000Z")
        assert period_at(anchor, "month", Instant("2026-03-30T23:59:59.999999Z")) == -1
        assert period_at(anchor, "month", Instant("2026-02-27T23:59:59.999999Z")) == -2
        assert period_at(anchor, "90s", Instant("2026-03-30T23:59:59.999999Z")) == -1

    @pytest.mark.parametrize(("interval", "n"), [("month", 10**6), ("year", 8000), ("90s", 10**12), ("30d", 10**30)])
    def test_a_boundary_outside_the_years_is_refused(self, interval: str, n: int) -> None:
        anchor = Instant("2026-01-31T00:00:00.000000Z")
        for number in (n, -n):
            with pytest.raises(ValueError, match=r"not a date|1970 to 9999"):
                boundary(anchor, interval, number)
