"""Laws of the WEBHOOKS file: what may stand in it, and that what is wrong is told without the secrets."""

import pytest

from service.settings import InvalidSettings, Settings, load, read_receivers
from service.webhooks.receivers import InvalidWebhooks, create_receiver, parse_receivers
from tests.webhooks.stage import SECRET


def entry(**fields: str) -> str:
    given = {"name": '"crm"', "url": '"https://crm.example.com/hook"', "secrets": f'["{SECRET}"]', **fields}
    return "\n".join(["[[webhook]]", *(f"{name} = {value}" for name, value in given.items() if value)])


def test_an_entry_that_is_made_can_be_read() -> None:
    made = create_receiver("crm", "https://crm.example.com/h?x=1", ["exhausted"], ["shop-"])
    (receiver,) = parse_receivers(made)
    assert receiver[:2] == ("crm", "https://crm.example.com/h?x=1")
    assert (receiver.kinds, receiver.accounts, len(receiver.keys[0])) == (("exhausted",), ("shop-",), 32)
    assert made != create_receiver("crm", "https://crm.example.com/h?x=1", ["exhausted"], ["shop-"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:80/", "https://10.0.0.1/"])
def test_https_goes_anywhere_and_http_to_this_machine(url: str) -> None:
    assert parse_receivers(entry(url=f'"{url}"'))[0].url == url


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": '"http://crm.example.com/"'}, "https://"),
        ({"url": '"http://127.0.0.1.example.com/"'}, "https://"),
        ({"url": '"ftp://crm.example.com/"'}, "https://"),
        ({"url": '"https://user:pass@crm.example.com/"'}, "without a user"),
        ({"url": '"https://crm.example.com/#x"'}, "without a fragment"),
        ({"url": '"https:///x"'}, "with a host"),
        ({"url": '"https://crm.example.com:99999/"'}, "with a host"),
        ({"url": '"https://crm.example.com/a b"'}, "with a host"),
        ({"secrets": "[]"}, "webhook 1 secrets"),
        ({"secrets": f'["{SECRET}", "{SECRET}", "{SECRET}"]'}, "webhook 1 secrets"),
        ({"secrets": '["secret-and-short"]'}, "webhook 1 secrets 1: a secret is whsec_"),
        ({"secrets": '["whsec_c2hvcnQ="]'}, "24 to 64 bytes"),
        ({"kinds": '["hungry"]'}, "webhook 1 kinds 1"),
        ({"name": '"a b"'}, "webhook 1 name"),
        ({"color": '"red"'}, "webhook 1 color"),
    ],
)
def test_what_is_wrong_is_told_by_its_place_and_without_what_it_is(fields: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidWebhooks) as caught:
        parse_receivers(entry(**fields))
    assert told in str(caught.value)
    for secret in ("pass", "c2hvcnQ", "secret-and-short", SECRET):
        assert secret not in str(caught.value).replace("whsec_ and", "")


def test_a_name_stands_once() -> None:
    with pytest.raises(InvalidWebhooks, match="webhook crm: stands twice"):
        parse_receivers(entry() + "\n" + entry())


def test_a_setting_that_cannot_be_read_names_the_file(tmp_path) -> None:
    file = tmp_path / "webhooks.toml"
    file.write_text("[[webhook")
    with pytest.raises(InvalidSettings, match=r"webhooks\.toml: not TOML"):
        read_receivers(load(Settings, {"webhooks": file}))
    assert read_receivers(load(Settings)) == ()
