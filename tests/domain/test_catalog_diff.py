"""What differs between two catalogs is told field by field, and nothing else is."""

from events.catalog import parse_catalog
from projections.catalog_diff import Difference, differences

OLD = """
version = "1"
[plans.free]
rank = 0
allowance.credits = 35
[plans.version]
rank = 1
overdraft_limit = 5
[operations.render]
each = "3"
[packs.small]
credits = 100
"""


def test_a_catalog_does_not_differ_from_itself_under_another_version() -> None:
    assert differences(parse_catalog(OLD), parse_catalog(OLD.replace('"1"', '"2"', 1))) == []


def test_each_changed_field_is_told_with_what_it_was_and_what_it_is() -> None:
    new = OLD.replace("credits = 35", "credits = 50").replace('"3"', '"4"').replace("limit = 5", "limit = 6")
    assert differences(parse_catalog(OLD), parse_catalog(new)) == [
        Difference("operations.render.each", "3", "4"),
        Difference("plans.free.allowance.credits", 35, 50),
        Difference("plans.version.overdraft_limit", 5, 6),
    ]


def test_a_default_that_is_written_out_is_no_difference() -> None:
    assert differences(parse_catalog(OLD), parse_catalog(OLD.replace("rank = 0", 'rank = 0\ninterval = "month"'))) == []


def test_what_only_one_of_them_has_is_told() -> None:
    without = parse_catalog(OLD[: OLD.index("[packs.small]")])
    gone = differences(parse_catalog(OLD), without)
    assert Difference("packs.small.credits", 100, None) in gone
    assert {difference.path.rsplit(".", 1)[0] for difference in gone} == {"packs.small"}
    come = differences(without, parse_catalog(OLD))
    assert come == [Difference(path, after, before) for path, before, after in gone]
