"""Which proxy the environment selects for a URL, compared with httpx."""

from __future__ import annotations

import traceback

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxupload._wire.environment import Environment

PROXY = "http://proxy.example:3128"
VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"]


@pytest.fixture
def environ(monkeypatch):
    """An environment without proxies."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def by_httpx(url):
    """Return whether httpx uses a proxy; None if it fails."""
    try:
        with httpx.Client(verify=False) as client:
            return client._transport_for_url(httpx.URL(url)) is not client._transport
    except httpx.InvalidURL:
        return None


# NO_PROXY, URL, whether a proxy is used, and what httpx does instead: the opposite, or raise InvalidURL
AGREED, OTHERWISE, FAILS = "agreed", "otherwise", "fails"
ROWS = [
    ("", "http://example.com/", True, AGREED),
    (" , ,", "http://example.com/", True, AGREED),
    ("*", "http://example.com/", False, AGREED),
    ("a.example, *", "https://example.com/", False, AGREED),
    ("example.com", "http://example.com/", False, AGREED),
    ("example.com", "https://example.com:8443/", False, AGREED),
    ("example.com", "http://www.example.com/", False, AGREED),
    ("example.com", "http://wwwexample.com/", True, AGREED),
    ("example.com", "http://example.com.evil.example/", True, AGREED),
    ("EXAMPLE.com", "http://Example.COM/", False, AGREED),
    (".example.com", "http://www.example.com/", False, AGREED),
    (".example.com", "http://a.b.example.com/", False, AGREED),
    (".example.com", "http://example.com/", True, AGREED),
    ("*.example.com", "http://www.example.com/", False, OTHERWISE),
    ("*.example.com", "http://example.com/", True, AGREED),
    ("example.com.", "http://example.com/", False, OTHERWISE),
    ("example.com", "http://example.com./", False, OTHERWISE),
    (" a.example ,\texample.com ", "http://example.com/", False, AGREED),
    ("a.example example.com", "http://example.com/", False, OTHERWISE),
    ("com", "http://example.com/", False, AGREED),
    ("localhost", "http://localhost/", False, AGREED),
    ("LocalHost", "http://localhost:8080/", False, AGREED),
    ("localhost", "http://www.localhost/", True, AGREED),
    ("localhost", "http://127.0.0.1/", True, AGREED),
    ("localhost:8080", "http://localhost:8080/", False, AGREED),
    ("127.0.0.1", "http://127.0.0.1/", False, AGREED),
    ("127.0.0.1", "http://127.0.0.1:8080/", False, AGREED),
    ("127.0.0.1", "http://127.0.0.2/", True, AGREED),
    ("127.0.0.1:8080", "http://127.0.0.1:8080/", False, AGREED),
    ("127.0.0.1:8080", "http://127.0.0.1/", True, AGREED),
    ("10.0.0.0/8", "http://10.0.0.0/", False, AGREED),
    ("10.0.0.0/8", "http://10.1.2.3/", False, OTHERWISE),
    ("10.9.9.9/8", "http://10.1.2.3/", False, OTHERWISE),
    ("10.0.0.0/8", "http://11.1.2.3/", True, AGREED),
    ("10.0.0.0/8", "http://10.example/", True, AGREED),
    ("10.0.0.0/255.0.0.0", "http://10.1.2.3/", False, OTHERWISE),
    ("10.0.0.0/99", "http://10.1.2.3/", True, AGREED),
    ("::1", "http://[::1]/", False, AGREED),
    ("::1", "http://[::1]:8080/", False, AGREED),
    ("0:0:0:0:0:0:0:1", "http://[::1]/", False, OTHERWISE),
    ("::1", "http://[::2]/", True, AGREED),
    ("[::1]", "http://[::1]/", False, FAILS),
    ("[::1]:8080", "http://[::1]:8080/", False, FAILS),
    ("[::1]:8080", "http://[::1]/", True, FAILS),
    ("fd00::/8", "http://[fd12::1]/", False, FAILS),
    ("fd00::/8", "http://[fe80::1]/", True, FAILS),
    ("[fd00::]/8", "http://[fd12::1]/", False, FAILS),
    ("[fd00::]:80", "http://[fd00::]/", False, FAILS),
    ("fe80::/10", "http://[fe80::1%25eth0]/", False, FAILS),
    ("0.0.0.0/0", "http://[::1]/", True, AGREED),
    ("example.com:8080", "http://example.com:8080/", False, AGREED),
    ("example.com:8080", "http://www.example.com:8080/", False, AGREED),
    ("example.com:8080", "http://example.com/", True, AGREED),
    ("example.com:443", "https://example.com/", False, OTHERWISE),
    ("example.com:443", "http://example.com/", True, AGREED),
    ("example.com:", "http://example.com/", False, AGREED),
    ("example.com:port", "http://example.com/", True, FAILS),
    ("http://example.com", "http://example.com/", False, AGREED),
    ("http://example.com", "https://example.com/", True, AGREED),
    ("http://example.com", "http://www.example.com/", True, AGREED),
    ("http://*.example.com", "http://www.example.com/", False, AGREED),
    ("http://*example.com", "http://example.com/", False, AGREED),
    ("http://*", "http://example.com/", False, AGREED),
    ("all://example.com", "https://example.com/", False, AGREED),
    ("https://", "https://example.com/", False, AGREED),
    ("https://", "http://example.com/", True, AGREED),
    ("bücher.example", "http://bücher.example/", False, FAILS),
    ("xn--bcher-kva.example", "http://bücher.example/", False, OTHERWISE),
    ("a..b, [, ::g, ://, %, http://[, exa mple", "http://example.com/", True, FAILS),
]


@pytest.mark.parametrize(("no_proxy", "url", "through", "httpx_says"), ROWS)
def test_no_proxy_selects_the_same_hosts_as_httpx(environ, no_proxy, url, through, httpx_says):
    """NO_PROXY is read as httpx reads it, except where httpx fails or is clearly wrong."""
    environ.setenv("ALL_PROXY", PROXY)
    environ.setenv("NO_PROXY", no_proxy)
    assert Environment().proxy_for(httpx.URL(url)) == (PROXY if through else None)
    expected = {AGREED: through, OTHERWISE: not through, FAILS: None}[httpx_says]
    assert by_httpx(url) is expected


@given(
    st.text() | st.text(alphabet="[]:/.%*@,- 0189afx\u00fc\u3002\u0661\u00b2"),
    st.sampled_from(
        ["http://example.com/", "https://[::1%25a]:8/", "http://1.2.3.4/", "http://b\u00fccher.example"]
    ),
)
def test_no_proxy_never_raises(no_proxy, url):
    """No content of NO_PROXY raises an exception."""
    Environment({"all": PROXY, "no": no_proxy}).proxy_for(httpx.URL(url))


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://example.com/", None),
        ({"HTTP_PROXY": "http://a"}, "http://example.com/", "http://a"),
        ({"HTTP_PROXY": "http://a"}, "https://example.com/", None),
        ({"https_proxy": "http://a"}, "https://example.com/", "http://a"),
        ({"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, "http://example.com/", "http://a"),
        ({"ALL_PROXY": "http://a"}, "https://example.com/", "http://a"),
        ({"ALL_PROXY": "http://a", "HTTP_PROXY": "http://b"}, "http://example.com/", "http://b"),
        ({"ALL_PROXY": "http://a", "HTTP_PROXY": ""}, "http://example.com/", "http://a"),
        ({"HTTP_PROXY": "a:3128"}, "http://example.com/", "http://a:3128"),
        ({"HTTP_PROXY": "user:pass@a:3128"}, "http://example.com/", "http://user:pass@a:3128"),
        ({"ALL_PROXY": "socks5h://a:1080"}, "http://example.com/", "socks5h://a:1080"),
        ({"ALL_PROXY": "https://a"}, "http://example.com/", "https://a"),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, "http://example.com/", None),
        ({"HTTP_PROXY": "http://a", "no_proxy": "example.com"}, "http://example.com/", None),
    ],
)
def test_order_of_the_variables(environ, variables, url, proxy):
    """Lower case wins over upper case, a scheme's own variable over ALL_PROXY; the default scheme is HTTP."""
    for name, value in variables.items():
        environ.setenv(name, value)
    assert Environment().proxy_for(httpx.URL(url)) == proxy
    assert by_httpx(url) is (proxy is not None)


@pytest.mark.parametrize(
    "value",
    [
        "http://user:s3cret@host:port",
        "http://user:s3cret",
        "user:s3cret@",
        "http://user:s3cret@[::g]",
        "http://user:s3cret@a\nb",
        "socks4://user:s3cret@host",
        "ftp://user:s3cret@host",
        "http://",
    ],
)
def test_an_invalid_proxy_is_a_value_error(value):
    """An invalid proxy is a ValueError that hides its text, and only for URLs that would use it."""
    environment = Environment({"https": value, "no": "direct.example"})
    assert environment.proxy_for(httpx.URL("http://example.com/")) is None
    assert environment.proxy_for(httpx.URL("https://direct.example/")) is None
    with pytest.raises(ValueError, match="HTTPS_PROXY is no proxy's URL") as raised:
        environment.proxy_for(httpx.URL("https://example.com/"))
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


def test_the_environment_is_read_once(environ):
    """A later change of the environment has no effect."""
    environ.setenv("HTTP_PROXY", PROXY)
    environment = Environment()
    environ.setenv("HTTP_PROXY", "http://other")
    assert environment.proxy_for(httpx.URL("http://example.com/")) == PROXY
