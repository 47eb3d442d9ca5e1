"""Laws of the catalog: what is shipped loads, what is written is kept, and whatever is wrong is refused by its path."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from dataclasses import FrozenInstanceError
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from events.catalog import Catalog, InvalidCatalog, Price, Rollover, Trial, parse_catalog
from events.pricing import PriceRule

CATALOGS = Path(__file__).parents[2] / "service" / "catalogs"

# The example of CONTRACT.md, "Catalog (TOML)".
EXAMPLE = """
version = "2026-11-01"
default_plan = "free"
insufficient_credits_message = "Not enough credits. Upgrade your plan for more."

[units.credits]
scale = 0
[capacities.concurrent_jobs]   # each capacity that a plan or an operation names

[plans.free]
rank = 0
allowance.credits = 35
capacity.concurrent_jobs = 1
interval = "month"          # month | year | "30d" | "90s"
renewal = "auto"            # auto | external
trial = { credits = 0, expires_days = 30 }
rollover = { share = "0", cap = 0 }
clear_bonus = false
overdraft_limit = 0
max_open_holds = 1000
low_balance_percent = 20
renewal_grace_days = 3
late_window_hours = 72

[operations.generate_image]
unit = "credits"
base = "0"                   # decimal strings
each = "1"
multipliers.quality = { standard = "1", hd = "2" }
per_1k.tokens = "0.5"
occupies.concurrent_jobs = 1 # once for each line; occupies_each: for each of quantity
ttl_seconds = 900
grace_seconds = 30

[operations.create_post]
free = true

[packs.small]
credits = 100
price = { amount = 900, currency = "usd" }
"""


def shipped(name: str) -> Catalog:
    return parse_catalog((CATALOGS / name).read_text(encoding="utf-8"))


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidCatalog) as refused:
        parse_catalog(text)
    assert all(problem in str(refused.value) for problem in refused.value.problems)
    return list(refused.value.problems)


class TestTheExampleOfTheContract:
    def test_every_field_is_kept_as_it_was_written(self) -> None:
        catalog = parse_catalog(EXAMPLE)
        assert (catalog.version, catalog.default_plan) == ("2026-11-01", "free")
        assert catalog.insufficient_credits_message == "Not enough credits. Upgrade your plan for more."
        assert (catalog.insufficient_credits_status, catalog.insufficient_credits_code) == (402, "insufficient_credits")
        assert (list(catalog.units), list(catalog.capacities)) == (["credits"], ["concurrent_jobs"])
        plan = catalog.plan("free")
        assert (plan.name, plan.rank, plan.interval, plan.renewal) == ("free", 0, "month", "auto")
        assert (plan.allowance, plan.capacity) == ({"credits": 35}, {"concurrent_jobs": 1})
        assert (plan.trial, plan.rollover) == (Trial(credits=0, expires_days=30), Rollover(share="0", cap=0))
        operation = catalog.operation("generate_image")
        assert (operation.name, operation.free, operation.unit) == ("generate_image", False, "credits")
        assert operation.price == PriceRule(
            catalog="2026-11-01",
            each="1",
            per_1k={"tokens": "0.5"},
            multipliers={"quality": {"standard": "1", "hd": "2"}},
        )
        assert (operation.occupies, operation.occupies_each) == ({"concurrent_jobs": 1}, {})
        assert (operation.ttl_seconds, operation.grace_seconds) == (900, 30)
        assert catalog.operation("create_post").free
        pack = catalog.packs["small"]
        assert (pack.name, pack.credits, pack.unit) == ("small", 100, "credits")
        assert pack.price == Price(amount=900, currency="usd")

    def test_what_a_plan_leaves_out_is_what_the_contract_shows(self) -> None:
        full = parse_catalog(EXAMPLE).plan("free")
        short = parse_catalog('version = "1"\n[plans.free]\nallowance.credits = 35').plan("free")
        for policy in (
            *("rank", "interval", "renewal", "rollover", "clear_bonus", "overdraft_limit", "max_open_holds"),
            *("low_balance_percent", "renewal_grace_days", "late_window_hours"),
        ):
            assert getattr(short, policy) == getattr(full, policy), policy
        assert short.trial == Trial(credits=0, expires_days=None)

    def test_what_an_operation_leaves_out_has_its_default(self) -> None:
        operation = parse_catalog('version = "1"\n[operations.a]\neach = "1.50"').operation("a")
        assert operation.price == PriceRule(catalog="1", each="1.5")
        assert (operation.unit, operation.ttl_seconds, operation.grace_seconds) == ("credits", None, 30)

    def test_credits_exist_without_being_named(self) -> None:
        assert list(parse_catalog('version = "1"').units) == ["credits"]
        catalog = parse_catalog('version = "1"\n[units.video_minutes]\nscale = 2')
        assert {name: unit.scale for name, unit in catalog.units.items()} == {"credits": 0, "video_minutes": 2}

    def test_a_name_that_is_not_listed_is_a_key_error(self) -> None:
        catalog = parse_catalog(EXAMPLE)
        for look in (catalog.operation, catalog.plan):
            with pytest.raises(KeyError):
                look("genrate_image")

    def test_a_catalog_cannot_be_assigned_to(self) -> None:
        catalog = parse_catalog(EXAMPLE)
        for frozen, field in (
            (catalog, "version"),
            (catalog.plan("free"), "rank"),
            (catalog.operation("create_post"), "free"),
            (catalog.packs["small"], "credits"),
        ):
            with pytest.raises(FrozenInstanceError):
                setattr(frozen, field, "changed")


class TestTheHash:
    def test_comments_layout_and_order_do_not_count(self) -> None:
        one = 'version = "1"\n[plans.a]\nrank = 0\nallowance.credits = 5\n[plans.b]\nrank = 1\n'
        other = '# same\nversion="1"\n[plans]\nb = {rank=0x1}\na = { rank = 0, allowance = { credits = +5 } }\n'
        assert parse_catalog(one).hash == parse_catalog(other).hash

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('version = "2026-11-01"', 'version = "2026-11-02"'),
            ("allowance.credits = 35", "allowance.credits = 36"),
            ('hd = "2"', 'hd = "3"'),
            ("[packs.small]", "[packs.little]"),
            ("grace_seconds = 30", "grace_seconds = 31"),
        ],
    )
    def test_every_change_of_content_changes_it(self, old: str, new: str) -> None:
        assert EXAMPLE.count(old) == 1
        assert parse_catalog(EXAMPLE.replace(old, new)).hash != parse_catalog(EXAMPLE).hash

    @given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=30))
    def test_it_is_sha_256_of_the_canonical_json_of_the_content(self, title: str) -> None:
        escaped = "".join(f"\\U{ord(character):08x}" for character in title)
        text = EXAMPLE + f'\n[plans.paid]\nrank = 1\ntitle = "{escaped}"\n'
        catalog = parse_catalog(text)
        assert catalog.plan("paid").title == title
        assert catalog.hash == sha256(rfc8785.dumps(tomllib.loads(text))).hexdigest()


def in_catalog(section: str, line: str) -> str:
    """The example with one more line in a section."""
    heading = f"[{section}]\n"
    assert EXAMPLE.count(heading) == 1
    return EXAMPLE.replace(heading, f"{heading}{line}\n")


def replaced(old: str, new: str) -> str:
    assert EXAMPLE.count(old) == 1
    return EXAMPLE.replace(old, new)


WRONG: list[tuple[str, str]] = [
    # What is not TOML, or not a table where one is needed.
    ("version = ", "catalog: is not TOML"),
    ('version = "1"\nversion = "2"', "catalog: is not TOML"),
    ("version = " + "9" * 5000, "catalog: is not TOML"),
    ("version = " + "[" * 100_000, "catalog: is nested too deeply"),
    ('version = "1"\n#' + "x" * 1_048_576, "catalog: is longer than"),
    ('version = "1"\nplans = 3', "plans: must be a table"),
    ('version = "1"\nplans = [1]', "plans: must be a table"),
    ('version = "1"\n[plans]\na = 3', "plans.a: must be a table"),
    ('version = "1"\n[[operations.a]]\neach = "1"', "operations.a: must be a table"),
    # The head of the file.
    ("", "version: is required"),
    ("version = 1", "version: must be a string"),
    ("version = 2026-11-01", "version: must be a string"),
    ('version = ""', "version: a version is"),
    ('version = "a b"', "version: a version is"),
    ('version = "1\\n"', "version: a version is"),
    ('version = "1"\ncurrency = "usd"', "currency: is not a field"),
    ('version = "1"\nhash = "x"', "hash: is not a field"),
    ('version = "1"\ndefault_plan = "gone"', "default_plan: there is no plan gone"),
    ('version = "1"\ninsufficient_credits_message = ""', "insufficient_credits_message: a text is"),
    ('version = "1"\ninsufficient_credits_message = "a\\u0000"', "insufficient_credits_message: a text is"),
    ('version = "1"\ninsufficient_credits_status = 500', "insufficient_credits_status: "),
    ('version = "1"\ninsufficient_credits_status = 402.0', "insufficient_credits_status: must be an integer"),
    ('version = "1"\ninsufficient_credits_status = "429"', "insufficient_credits_status: "),
    ('version = "1"\ninsufficient_credits_code = "NO CREDITS"', "insufficient_credits_code: a code is"),
    # Names.
    ('version = "1"\n[plans."a b"]\nrank = 0', "plans.a b: a name is"),
    ('version = "1"\n[plans."a.b"]\nrank = 0', "plans.a.b: a name is"),
    ('version = "1"\n[operations.""]\neach = "1"', "operations.: a name is"),
    ('version = "1"\n[operations."a\\n"]\neach = "1"', "operations.a\n: a name is"),
    ('version = "1"\n[units."\u00e9"]', "units.\u00e9: a name is"),
    (f'version = "1"\n[capacities.{"c" * 129}]', f"capacities.{'c' * 129}: a name is"),
    ('version = "1"\n[plans.a]\nname = "b"', "plans.a.name: "),
    ('version = "1"\n[packs.a]\ncredits = 1\nname = "b"', "packs.a.name: "),
    (in_catalog("operations.generate_image", 'name = "b"'), "operations.generate_image.name: is not a field"),
    # Plans.
    (in_catalog("plans.free", "unknown = 1"), "plans.free.unknown: is not a field"),
    (in_catalog("plans.free", "allowance.minutes = 1"), "plans.free.allowance: there is no unit minutes"),
    (in_catalog("plans.free", "capacity.slots = 1"), "plans.free.capacity: there is no capacity slots"),
    (in_catalog("plans.free", "title = 5"), "plans.free.title: must be a string"),
    (in_catalog("plans.free", "price = { amount = 1 }"), "plans.free.price.currency: is required"),
    (in_catalog("plans.free", 'price = { amount = 1.5, currency = "usd" }'), "plans.free.price.amount: must be an int"),
    (in_catalog("plans.free", 'price = { amount = 1, currency = "USD" }'), "plans.free.price.currency: a currency is"),
    (replaced("rank = 0", "rank = 0.0"), "plans.free.rank: must be an integer"),
    (replaced("rank = 0", "rank = true"), "plans.free.rank: must be an integer"),
    (replaced("rank = 0", 'rank = "0"'), "plans.free.rank: must be an integer"),
    (replaced("rank = 0", "rank = -1"), "plans.free.rank: "),
    (replaced("allowance.credits = 35", "allowance = 35"), "plans.free.allowance: must be a table"),
    (replaced("allowance.credits = 35", "allowance.credits = -1"), "plans.free.allowance.credits: "),
    (replaced("allowance.credits = 35", "allowance.credits = 35.0"), "plans.free.allowance.credits: must be an int"),
    (replaced("allowance.credits = 35", "allowance.credits = true"), "plans.free.allowance.credits: must be an int"),
    (replaced("allowance.credits = 35", "allowance.credits = nan"), "plans.free.allowance.credits: must be an int"),
    (replaced("allowance.credits = 35", "allowance.credits = 9007199254740992"), "plans.free.allowance.credits: "),
    (replaced("capacity.concurrent_jobs = 1\n", "capacity.concurrent_jobs = -1\n"), "plans.free.capacity.concurrent"),
    (replaced('interval = "month"', 'interval = "week"'), "plans.free.interval: an interval is"),
    (replaced('interval = "month"', 'interval = "0d"'), "plans.free.interval: an interval is"),
    (replaced('interval = "month"', 'interval = "4000d"'), "plans.free.interval: an interval is"),
    (replaced('interval = "month"', "interval = 30"), "plans.free.interval: must be a string"),
    (replaced('renewal = "auto"', 'renewal = "manual"'), "plans.free.renewal: "),
    (replaced("credits = 0, expires", "credits = -1, expires"), "plans.free.trial.credits: "),
    (replaced("expires_days = 30", "expires_days = 0"), "plans.free.trial.expires_days: "),
    (replaced("expires_days = 30", "expires = 30"), "plans.free.trial.expires: is not a field"),
    (replaced('share = "0"', "share = 0"), "plans.free.rollover.share: must be a string"),
    (replaced('share = "0"', 'share = "1.01"'), "plans.free.rollover.share: a share lies between"),
    (replaced('share = "0"', 'share = "50%"'), "plans.free.rollover.share: a decimal is"),
    (replaced("cap = 0", "cap = -1"), "plans.free.rollover.cap: "),
    (replaced("clear_bonus = false", "clear_bonus = 0"), "plans.free.clear_bonus: must be true or false"),
    (replaced("clear_bonus = false", 'clear_bonus = "no"'), "plans.free.clear_bonus: must be true or false"),
    (replaced("overdraft_limit = 0", "overdraft_limit = -1"), "plans.free.overdraft_limit: "),
    (replaced("max_open_holds = 1000", "max_open_holds = 1000001"), "plans.free.max_open_holds: "),
    (replaced("low_balance_percent = 20", "low_balance_percent = 101"), "plans.free.low_balance_percent: "),
    (replaced("renewal_grace_days = 3", "renewal_grace_days = 367"), "plans.free.renewal_grace_days: "),
    (replaced("late_window_hours = 72", "late_window_hours = -1"), "plans.free.late_window_hours: "),
    ('version = "1"\n[plans.a]\nrank = 0\n[plans.b]', "plans.b.rank: is required when there are several plans"),
    # Operations.
    ('version = "1"\n[operations.a]', "operations.a: has no price"),
    ('version = "1"\n[operations.a]\nfree = false', "operations.a: has no price"),
    ('version = "1"\n[operations.a]\nmultipliers.q.x = "2"', "operations.a: has no price"),
    (in_catalog("operations.generate_image", "price = 1"), "operations.generate_image.price: is not a field"),
    (in_catalog("operations.generate_image", 'free = "yes"'), "operations.generate_image.free: must be true or false"),
    (replaced('unit = "credits"', 'unit = "minutes"'), "operations.generate_image.unit: there is no unit minutes"),
    (replaced('base = "0"', "base = 0"), "operations.generate_image.base: must be a string"),
    (replaced('base = "0"', "base = 0.5"), "operations.generate_image.base: must be a string"),
    (replaced('base = "0"', 'base = "-1"'), "operations.generate_image.base: a decimal is"),
    (replaced('each = "1"', 'each = "1e3"'), "operations.generate_image.each: a decimal is"),
    (replaced('each = "1"', 'each = "1234567890123456789"'), "operations.generate_image.each: a decimal is"),
    (replaced('each = "1"', 'each = "0.1234567890123"'), "operations.generate_image.each: a decimal is"),
    (replaced('hd = "2"', "hd = 2"), "operations.generate_image.multipliers.quality.hd: must be a string"),
    (replaced('hd = "2"', '"h d" = "2"'), "operations.generate_image.multipliers.quality.h d: a name is"),
    (replaced('{ standard = "1", hd = "2" }', "{}"), "operations.generate_image.multipliers.quality: "),
    (replaced('{ standard = "1", hd = "2" }', '"2"'), "operations.generate_image.multipliers.quality: must be a table"),
    (replaced('per_1k.tokens = "0.5"', "per_1k.tokens = 1"), "operations.generate_image.per_1k.tokens: must be a str"),
    (replaced("per_1k.tokens", "per_1k.quality"), "operations.generate_image.multipliers.quality: is also a count"),
    (in_catalog("operations.generate_image", "occupies.slots = 1"), "operations.generate_image.occupies: there is no"),
    (
        in_catalog("operations.generate_image", "occupies_each.slots = 1"),
        "operations.generate_image.occupies_each: the",
    ),
    (
        replaced("occupies.concurrent_jobs = 1", "occupies.concurrent_jobs = 0"),
        "operations.generate_image.occupies.con",
    ),
    (replaced("ttl_seconds = 900", "ttl_seconds = 0"), "operations.generate_image.ttl_seconds: "),
    (replaced("ttl_seconds = 900", "ttl_seconds = 86401"), "operations.generate_image.ttl_seconds: "),
    (replaced("ttl_seconds = 900", "ttl_seconds = 900.0"), "operations.generate_image.ttl_seconds: must be an integer"),
    (replaced("grace_seconds = 30", "grace_seconds = 301"), "operations.generate_image.grace_seconds: "),
    (replaced("grace_seconds = 30", "grace_seconds = -1"), "operations.generate_image.grace_seconds: "),
    # A free operation has nothing to price, occupy or hold.
    (in_catalog("operations.create_post", 'each = "1"'), "operations.create_post.each: a free operation"),
    (in_catalog("operations.create_post", 'base = "0"'), "operations.create_post.base: a free operation"),
    (
        in_catalog("operations.create_post", "occupies.concurrent_jobs = 1"),
        "operations.create_post.occupies: a free op",
    ),
    (in_catalog("operations.create_post", "ttl_seconds = 5"), "operations.create_post.ttl_seconds: a free operation"),
    # Packs and units.
    (replaced("credits = 100", "credits = 0"), "packs.small.credits: "),
    (replaced("credits = 100", 'credits = "100"'), "packs.small.credits: must be an integer"),
    (replaced("credits = 100", ""), "packs.small.credits: is required"),
    (replaced("credits = 100", 'credits = 100\nunit = "minutes"'), "packs.small.unit: there is no unit minutes"),
    (replaced("amount = 900", "amount = -1"), "packs.small.price.amount: "),
    (replaced("scale = 0", "scale = 13"), "units.credits.scale: "),
    (replaced("scale = 0", "scale = 0\nsize = 1"), "units.credits.size: is not a field"),
]


class TestWhatIsWrongIsRefused:
    @pytest.mark.parametrize(
        ("text", "problem"), WRONG, ids=[f"{n}-{problem[:60]}" for n, (_, problem) in enumerate(WRONG)]
    )
    def test_with_the_path_of_the_field(self, text: str, problem: str) -> None:
        found = problems(text)
        assert len(found) == 1, found
        assert found[0].startswith(problem)

    def test_every_problem_is_listed_at_once(self) -> None:
        wrong_shapes = 'version = 1\n[plans.a]\nrank = 0.5\ninterval = "week"\n[operations.b]\nbase = 1\n'
        paths = [problem.split(":")[0] for problem in problems(wrong_shapes)]
        assert sorted(paths) == ["operations.b.base", "plans.a.interval", "plans.a.rank", "version"]
        wrong_names = (
            'version = "1"\ndefault_plan = "z"\n[plans.a]\nallowance.x = 1\n[operations.b]\nunit = "x"\nbase = "1"'
        )
        paths = [problem.split(":")[0] for problem in problems(wrong_names)]
        assert sorted(paths) == ["default_plan", "operations.b.unit", "plans.a.allowance"]

    @given(st.recursive(st.one_of(st.integers(), st.text(max_size=5), st.booleans()), st.lists, max_leaves=5))
    def test_no_value_of_any_field_ends_in_another_error(self, value: Any) -> None:
        written = toml(value)
        for field in ("version", "units", "plans", "operations", "insufficient_credits_status"):
            head = "" if field == "version" else 'version = "1"\n'
            with suppress(InvalidCatalog):
                assert parse_catalog(f"{head}{field} = {written}").version


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not 0xD800 <= ord(c) < 0xE000) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in cast("list[Any]", value)) + "]"
    return str(value)


class TestTheShippedCatalogs:
    @pytest.mark.parametrize("path", sorted(CATALOGS.glob("*.toml")), ids=lambda path: path.stem)
    def test_each_loads_and_opens_accounts(self, path: Path) -> None:
        catalog = shipped(path.name)
        assert catalog.default_plan == "free"
        assert all(operation.price.catalog == catalog.version for operation in catalog.operations.values())

    def test_both_are_shipped(self) -> None:
        assert {path.stem for path in CATALOGS.glob("*.toml")} >= {"content_platform", "asset_studio"}

    def test_the_content_platform_has_the_plans_that_were_asked(self) -> None:
        catalog = shipped("content_platform.toml")
        ranked = sorted(catalog.plans.values(), key=lambda plan: plan.rank)
        assert [(plan.name, plan.rank, plan.allowance) for plan in ranked] == [
            ("free", 0, {"credits": 35}),
            ("starter", 1, {"credits": 200}),
            ("pro", 2, {"credits": 700}),
            ("business", 3, {"credits": 2000}),
            ("agency", 4, {"credits": 7000}),
        ]
        assert [plan.capacity["concurrent_jobs"] for plan in ranked] == [1, 2, 4, 8, 20]
        platforms = [plan.capacity["platforms"] for plan in ranked]
        assert platforms == sorted(set(platforms))
        assert {plan.interval for plan in ranked} == {"month"}
        assert catalog.insufficient_credits_message == "Not enough credits. Upgrade your plan for more."

    def test_posts_are_free_and_the_priced_operations_need_no_room(self) -> None:
        catalog = shipped("content_platform.toml")
        assert {name for name, operation in catalog.operations.items() if operation.free} == {
            *("create_post", "edit_post", "duplicate_post", "schedule_post", "publish_post", "delete_post")
        }
        for name in ("create_reel", "create_carousel", "generate_ai_image", "regenerate_copy", "publish_ayrshare"):
            assert catalog.operation(name).occupies == {}
        assert catalog.operation("generate_video").occupies == {"concurrent_jobs": 1}

    def test_the_asset_studio_has_the_plans_that_were_asked(self) -> None:
        catalog = shipped("asset_studio.toml")
        ranked = sorted(catalog.plans.values(), key=lambda plan: plan.rank)
        assert [(plan.name, plan.capacity["product_slots"]) for plan in ranked] == [
            ("free", 100),
            ("starter", 500),
            ("pro", 1000),
            ("enterprise", 5000),
        ]
        assert all({"storage_mb", "concurrent_jobs"} <= plan.capacity.keys() for plan in ranked)
        assert catalog.plan("free").trial.credits > 0

    def test_the_asset_studio_gates_generation_and_lets_asset_actions_pass(self) -> None:
        catalog = shipped("asset_studio.toml")
        free = {name for name, operation in catalog.operations.items() if operation.free}
        assert free >= {"image_transform", "process_adjustments", "art_director"}
        assert free >= {f"{action}_asset" for action in ("pin", "favorite", "approve", "edit", "delete")}
        gated = catalog.operations.keys() - free
        assert gated >= {"generate_image", "generate_video", "edit_image", "upscale_image", "remove_background"}
        assert gated >= {"generate_collection_flow", "store_sync", "video_job"}
        assert gated >= {"model_creation", "model_refinement", "image_generation"}
        for job in ("generate_image", "generate_video", "video_job", "model_creation", "image_generation"):
            assert catalog.operation(job).occupies == {"concurrent_jobs": 1}
