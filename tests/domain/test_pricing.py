"""Laws of prices: exact whatever the decimals, rounded up once, nothing unknown accepted, and no figure too large."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.catalog import Catalog, parse_catalog
from events.pricing import (
    FIGURE_MAX,
    QUANTITY_MAX,
    FigureTooLarge,
    PriceRule,
    UnknownParam,
    affordable,
    canonical_decimal,
    cost,
)

CATALOGS = Path(__file__).parents[2] / "service" / "catalogs"

Params = dict[str, int | str]


def decimals(whole_max: int) -> st.SearchStrategy[str]:
    parts = st.tuples(st.integers(0, whole_max), st.text("0123456789", min_size=1, max_size=12))
    return parts.map(lambda part: canonical_decimal(f"{part[0]}.{part[1]}"))


rules = st.builds(
    PriceRule,
    catalog=st.just("v1"),
    base=decimals(1000),
    each=decimals(1000),
    per_1k=st.dictionaries(st.sampled_from(["tokens", "seconds"]), decimals(100)),
    multipliers=st.dictionaries(
        st.sampled_from(["quality", "size"]),
        st.dictionaries(st.sampled_from(["draft", "hd"]), decimals(20), min_size=1),
    ),
)
quantities = st.one_of(st.integers(1, 100), st.integers(1, QUANTITY_MAX))


@st.composite
def priced(draw: st.DrawFn) -> tuple[PriceRule, Params]:
    """A rule and params that it knows."""
    rule = draw(rules)
    params: Params = {}
    for param in draw(st.sets(st.sampled_from(sorted(rule.per_1k)))) if rule.per_1k else ():
        params[param] = draw(st.one_of(st.integers(0, 10**9), decimals(10**9)))
    for param in draw(st.sets(st.sampled_from(sorted(rule.multipliers)))) if rule.multipliers else ():
        params[param] = draw(st.sampled_from(sorted(rule.multipliers[param])))
    return rule, params


def exact(rule: PriceRule, quantity: int, params: Params) -> Fraction:
    """The formula of SEMANTICS.md section 1 in rationals, written apart from the code."""
    figure = Fraction(rule.base) + Fraction(rule.each) * quantity
    for param, rate in rule.per_1k.items():
        figure += Fraction(rate) * Fraction(params.get(param, 0)) / 1000
    for param, values in rule.multipliers.items():
        if param in params:
            figure *= Fraction(values[str(params[param])])
    return figure


def catalog(name: str) -> Catalog:
    return parse_catalog((CATALOGS / name).read_text(encoding="utf-8"))


class TestTheFormula:
    @given(priced(), quantities)
    def test_a_cost_is_the_ceiling_of_the_exact_rational(self, case: tuple[PriceRule, Params], quantity: int) -> None:
        rule, params = case
        expected = ceil(exact(rule, quantity, params))
        if expected > FIGURE_MAX:
            with pytest.raises(FigureTooLarge) as refused:
                cost(rule, quantity, params)
            assert refused.value.figure == expected
        else:
            assert cost(rule, quantity, params) == expected

    @pytest.mark.parametrize(
        ("rule", "quantity", "params", "expected"),
        [
            (PriceRule(catalog="v"), 1, {}, 0),
            (PriceRule(catalog="v", base="5"), 7, {}, 5),
            (PriceRule(catalog="v", each="5"), 7, {}, 35),
            (PriceRule(catalog="v", base="0.000000000001"), 1, {}, 1),
            (PriceRule(catalog="v", each="0.1"), 10, {}, 1),
            (PriceRule(catalog="v", each="0.1"), 11, {}, 2),
            (PriceRule(catalog="v", each="0.5", per_1k={"tokens": "0.5"}), 1, {"tokens": 1000}, 1),
            (PriceRule(catalog="v", each="0.5", per_1k={"tokens": "0.5"}), 1, {"tokens": 1001}, 2),
            (PriceRule(catalog="v", each="0.5", per_1k={"tokens": "0.5"}), 1, {"tokens": "1000.001"}, 2),
            (PriceRule(catalog="v", per_1k={"tokens": "2"}), 1, {}, 0),
            (PriceRule(catalog="v", each="3", multipliers={"q": {"half": "0.5"}}), 1, {"q": "half"}, 2),
            (PriceRule(catalog="v", each="3", multipliers={"q": {"half": "0.5"}}), 2, {"q": "half"}, 3),
            (PriceRule(catalog="v", each="3", multipliers={"q": {"half": "0.5"}}), 1, {}, 3),
            (PriceRule(catalog="v", each="3", multipliers={"q": {"none": "0"}}), 9, {"q": "none"}, 0),
        ],
    )
    def test_it_is_rounded_up_once_at_the_end(
        self, rule: PriceRule, quantity: int, params: Params, expected: int
    ) -> None:
        assert cost(rule, quantity, params) == expected

    def test_more_digits_than_a_decimal_context_holds_stay_exact(self) -> None:
        rule = PriceRule(
            catalog="v",
            base="900000000000.000000000001",
            multipliers={"a": {"x": "1.000000000001"}, "b": {"x": "1.000000000001"}, "c": {"x": "1.000000000001"}},
        )
        params: Params = {"a": "x", "b": "x", "c": "x"}
        assert cost(rule, 1, params) == ceil(exact(rule, 1, params))
        # An exact integer is not rounded up by a digit that a context would have left behind.
        third = PriceRule(catalog="v", each="0.333333333333", multipliers={"m": {"three": "3"}})
        assert cost(third, 10**9, {"m": "three"}) == 10**9

    def test_the_quantity_is_one_when_none_is_given(self) -> None:
        assert cost(PriceRule(catalog="v", each="5")) == 5


class TestBounds:
    @pytest.mark.parametrize("quantity", [0, -1, QUANTITY_MAX + 1])
    def test_a_quantity_lies_between_one_and_a_thousand_million(self, quantity: int) -> None:
        with pytest.raises(ValueError, match="quantity"):
            cost(PriceRule(catalog="v", each="1"), quantity)

    def test_the_largest_figure_passes_and_the_next_is_refused(self) -> None:
        assert cost(PriceRule(catalog="v", base=str(FIGURE_MAX))) == FIGURE_MAX
        for base in (str(FIGURE_MAX + 1), f"{FIGURE_MAX}.000000000001"):
            with pytest.raises(FigureTooLarge, match=str(FIGURE_MAX + 1)):
                cost(PriceRule(catalog="v", base=base))


class TestParams:
    RULE = PriceRule(
        catalog="v",
        each="1",
        per_1k={"tokens": "1"},
        multipliers={"quality": {"standard": "1", "hd": "2"}, "steps": {"20": "1"}},
    )

    @pytest.mark.parametrize(
        ("params", "param", "allowed"),
        [
            ({"qualty": "hd"}, "qualty", ("quality", "steps", "tokens")),
            ({"quality": "HD"}, "quality", ("hd", "standard")),
            ({"quality": 2}, "quality", ("hd", "standard")),
            ({"quality": ""}, "quality", ("hd", "standard")),
            ({"steps": 20}, "steps", ("20",)),
            ({"quality": "hd", "colour": 1}, "colour", ("quality", "steps", "tokens")),
        ],
    )
    def test_what_the_operation_does_not_know_is_refused_with_what_it_knows(
        self, params: Params, param: str, allowed: tuple[str, ...]
    ) -> None:
        for refuse in (lambda: cost(self.RULE, 1, params), lambda: affordable(self.RULE, 100, params)):
            with pytest.raises(UnknownParam, match=param) as refused:
                refuse()
            assert refused.value.param == param
            assert refused.value.allowed == allowed

    @pytest.mark.parametrize(
        "count",
        [
            *(-1, FIGURE_MAX + 1, True, False, 1.0, None, "", "-1", "+1", "1e3", "1.", ".5", "01", "1 ", "1_0", "NaN"),
            *("Infinity", "\u0661", "1\n", "1" * 19, "0.1234567890123", "9" * 5000),
        ],
    )
    def test_a_count_is_an_integer_or_a_plain_decimal_from_zero(self, count: int | str) -> None:
        with pytest.raises(UnknownParam, match="count"):
            cost(self.RULE, 1, {"tokens": count})

    @pytest.mark.parametrize("count", [0, "0", "0.0", FIGURE_MAX, "999999999999999999.999999999999"])
    def test_every_plain_count_is_taken(self, count: int | str) -> None:
        rule = PriceRule(catalog="v", per_1k={"tokens": "0.001"})
        assert cost(rule, 1, {"tokens": count}) == ceil(Fraction(count) / 1_000_000)

    def test_an_operation_without_params_says_so(self) -> None:
        with pytest.raises(UnknownParam, match="no param"):
            cost(PriceRule(catalog="v", each="1"), 1, {"quality": "hd"})


class TestWhatABalanceCanPay:
    @given(priced(), st.one_of(st.integers(0, 2000), st.integers(0, FIGURE_MAX)))
    @example((PriceRule(catalog="v", each="0.000000000001"), {}), FIGURE_MAX)
    @example((PriceRule(catalog="v", base="10", each="0.1"), {}), 10)
    def test_affordable_is_the_largest_quantity_that_available_covers(
        self, case: tuple[PriceRule, Params], available: int
    ) -> None:
        rule, params = case
        quantity = affordable(rule, available, params)
        if quantity is None:
            assert exact(rule, QUANTITY_MAX, params) == 0
            return
        assert exact(rule, QUANTITY_MAX, params) > 0
        assert 0 <= quantity <= QUANTITY_MAX
        assert quantity == 0 or ceil(exact(rule, quantity, params)) <= available
        assert quantity == QUANTITY_MAX or ceil(exact(rule, quantity + 1, params)) > available

    @pytest.mark.parametrize(
        ("rule", "params", "available", "expected"),
        [
            (PriceRule(catalog="v", each="5"), {}, 34, 6),
            (PriceRule(catalog="v", each="5"), {}, 35, 7),
            (PriceRule(catalog="v", each="5"), {}, 0, 0),
            (PriceRule(catalog="v", each="5"), {}, -3, 0),
            (PriceRule(catalog="v", base="10", each="5"), {}, 14, 0),
            (PriceRule(catalog="v", base="10"), {}, 9, 0),
            (PriceRule(catalog="v", base="10"), {}, 10, QUANTITY_MAX),
            (PriceRule(catalog="v"), {}, 0, None),
            (PriceRule(catalog="v", each="1", multipliers={"q": {"none": "0"}}), {"q": "none"}, 0, None),
            (PriceRule(catalog="v", per_1k={"tokens": "1"}), {}, 5, None),
            (PriceRule(catalog="v", per_1k={"tokens": "1"}), {"tokens": 6000}, 5, 0),
        ],
    )
    def test_a_free_price_has_no_limit_and_a_flat_one_is_all_or_nothing(
        self, rule: PriceRule, params: Params, available: int, expected: int | None
    ) -> None:
        assert affordable(rule, available, params) == expected


class TestDecimals:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [("0", "0"), ("0.0", "0"), ("1.50", "1.5"), ("10", "10"), ("0.000000000001", "0.000000000001")],
    )
    def test_a_decimal_has_one_canonical_form(self, text: str, canonical: str) -> None:
        assert canonical_decimal(text) == canonical
        assert canonical_decimal(canonical) == canonical

    @pytest.mark.parametrize("text", ["", "-1", "+1", "1e3", "01", "1.", ".5", "1,5", "1" * 19, "0." + "1" * 13, "1\n"])
    def test_anything_else_is_not_a_decimal(self, text: str) -> None:
        with pytest.raises(ValueError, match="decimal"):
            canonical_decimal(text)


class TestThePinnedRule:
    @given(rules)
    def test_a_rule_comes_back_from_its_json(self, rule: PriceRule) -> None:
        assert msgspec.json.decode(msgspec.json.encode(rule), type=PriceRule) == rule

    def test_a_rule_leaves_out_what_has_its_default(self) -> None:
        assert msgspec.json.encode(PriceRule(catalog="v", each="5")) == b'{"catalog":"v","each":"5"}'

    def test_two_rules_share_no_dictionary(self) -> None:
        assert PriceRule(catalog="v").per_1k is not PriceRule(catalog="v").per_1k


class TestThePricesOfTheShippedCatalogs:
    @pytest.mark.parametrize(
        ("operation", "price"),
        [
            ("create_reel", 5),
            ("create_carousel", 1),
            ("generate_ai_image", 3),
            ("regenerate_copy", 1),
            ("publish_ayrshare", 1),
            ("duplicate_reel", 5),
            ("duplicate_carousel", 1),
            ("generate_video", 20),
        ],
    )
    def test_each_operation_of_the_content_platform_costs_what_was_asked(self, operation: str, price: int) -> None:
        rule = catalog("content_platform.toml").operation(operation).price
        assert cost(rule) == price
        assert cost(rule, 7) == 7 * price
        assert affordable(rule, 35) == 35 // price

    @pytest.mark.parametrize(
        ("params", "price"),
        [({}, 1), ({"quality": "standard"}, 1), ({"quality": "hd"}, 2), ({"quality": "hd", "tokens": 1500}, 4)],
    )
    def test_an_image_with_parameters_costs_by_them(self, params: Params, price: int) -> None:
        assert cost(catalog("content_platform.toml").operation("generate_image").price, 1, params) == price

    @pytest.mark.parametrize(
        ("operation", "quantity", "params", "price"),
        [
            ("model_creation", 20, {}, 50),
            ("model_creation", 20, {"quality": "high"}, 100),
            ("model_refinement", 1, {}, 16),
            ("image_generation", 1, {}, 2),
            ("image_generation", 4, {"quality": "high", "resolution": "1024", "steps": "30"}, 17),
            ("store_sync", 1, {}, 1),
            ("store_sync", 11, {}, 3),
            ("video_job", 1, {}, 25),
            ("generate_collection_flow", 4, {}, 8),
        ],
    )
    def test_the_asset_studio_prices_by_base_quantity_and_multipliers(
        self, operation: str, quantity: int, params: Params, price: int
    ) -> None:
        assert cost(catalog("asset_studio.toml").operation(operation).price, quantity, params) == price

    def test_a_video_is_dearer_than_an_image(self) -> None:
        studio = catalog("asset_studio.toml")
        for video in ("generate_video", "video_job"):
            assert cost(studio.operation(video).price) > 5 * cost(studio.operation("generate_image").price)
