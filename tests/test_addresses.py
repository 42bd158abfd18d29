"""How an address is written for people."""

from __future__ import annotations

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxupload._addresses import cleaned, readable_url, seems_cut, shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://h/photos", "http://h/photos"),
        ("http://u:s3cret@h:81/photos?token=s3cret#s3cret", "http://h:81/photos"),
        ("http://s3cret@h/", "http://h/"),
        ("http://u:p@s3cret@h/", "http://h/"),
        ("https://[::1]:8443/a", "https://[::1]:8443/a"),
        ("http://h/%40s3cret", "http://h/%40s3cret"),
        ("http://h:12/s3cret@there/", "http://h:12/..."),
        ("http://h:12/a/s3cret@there/", "http://h:12/..."),
        ("http://h:12?s3cret@there/", "http://h:12/..."),
        ("http://h:12#s3cret@there/", "http://h:12/..."),
        ("http://h/photos?mail=a@b", "http://h/..."),
        ("http://h:s3cret#x@there/", "an invalid address"),
        ("/photos?token=s3cret", "/photos"),
    ],
)
def test_an_address_is_shown_without_secrets(url, text):
    """User, password, query and fragment are left out; the path too if it may be the rest of a password."""
    assert shown(url) == text
    if readable_url(url) is not None:
        assert shown(httpx.URL(url)) == shown(httpx2.URL(url)) == text


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("for url 'http://u:s3cret@h/a?token=s3cret'", "for url 'http://h/a'"),
        ("<https://h/a?s3cret>, http://h:s3cret#x@h/", "<https://h/a>, an invalid address"),
        ("a:b, 12:30, c@d", "a:b, 12:30, c@d"),
    ],
)
def test_a_text_of_others_is_shown_without_secrets(text, clean):
    """Each address in it is written in the same way, and the rest is kept."""
    assert cleaned(text) == clean


@pytest.mark.parametrize("url", ["http://u:1#x@h/", "http://u?x@h/", "http://u:1/a#x@h/", "http://u#@h"])
def test_an_at_sign_behind_a_mark_seems_cut(url):
    """The text between a mark and an @ was probably meant as a part of a password."""
    assert seems_cut(url)


@pytest.mark.parametrize(
    "url", ["http://u:p@h/a?b=c#d", "http://h/@me", "http://h/a?mail=b@c", "http://h#top"]
)
def test_other_addresses_do_not_seem_cut(url):
    """An @ in a path or in its query is common."""
    assert not seems_cut(url)


@given(st.text(max_size=40))
def test_any_text_can_be_shown(text):
    """No text raises."""
    shown(text)
    shown(f"http://{text}")
    cleaned(f"http://{text} {text}")
