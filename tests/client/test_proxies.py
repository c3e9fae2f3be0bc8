"""Which proxy leads to a server, and what is said to it: Go's rules, by table."""

import pytest

from portway.client.handshakes import ProxyRefused, handshake
from portway.client.proxies import Proxy, from_environment, parse


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://p", Proxy("http", "p", 80)),
        ("http://p:3128/", Proxy("http", "p", 3128)),
        ("https://p", Proxy("https", "p", 443)),
        ("socks5://p", Proxy("socks5", "p", 1080)),
        ("socks5h://p:1", Proxy("socks5", "p", 1)),
        ("http://u%40x:p%3A@[::1]:8", Proxy("http", "::1", 8, "u@x", "p:")),
    ],
)
def test_a_proxy_url(url: str, proxy: Proxy) -> None:
    assert parse(url) == proxy
    if proxy.password:
        assert proxy.password not in repr(proxy) + str(proxy).partition("://")[2].partition("]")[0]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://p", 'unsupported scheme "ftp", must be http, https, or socks5'),
        ("p:80", "could not parse: p:80"),
        ("u:pw@p:80", "could not parse: p:80"),
        ("http://p:x", "could not parse"),
        ("http://", "no host in URL"),
    ],
)
def test_what_is_no_proxy_url(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("", "a.example", 443, False),
        ("", "localhost", 443, True),
        ("", "127.0.0.9", 443, True),
        ("", "::1", 443, True),
        ("*", "a.example", 443, True),
        ("example", "a.example", 443, True),
        ("a.example", "A.Example.", 443, True),
        (".example", "a.example", 443, True),
        (".a.example", "a.example", 443, False),
        ("*.example", "a.example", 443, True),
        ("xample", "a.example", 443, False),
        ("a.example:443", "a.example", 443, True),
        ("a.example:444", "a.example", 443, False),
        ("x, a.example ,", "a.example", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "a.example", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:6443", "10.1.2.3", 443, False),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("fd00::1", "fd00::1", 443, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("1.2.3.4/x", "1.2.3.4", 443, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, direct: bool) -> None:
    """golang.org/x/net/http/httpproxy, proxy_test.go and its documentation."""
    environ = {"HTTPS_PROXY": "http://p", "NO_PROXY": no_proxy}
    assert (from_environment(environ, "https", host, port) is None) == direct


@pytest.mark.parametrize(
    ("environ", "scheme", "found"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": "p:3128"}, "https", "http://p:3128"),
        ({"HTTPS_PROXY": "p:3128"}, "http", None),
        ({"https_proxy": "socks5://p"}, "https", "socks5://p:1080"),
        ({"HTTP_PROXY": "p"}, "https", None),
        ({"HTTP_PROXY": "p"}, "http", "http://p:80"),
        ({"HTTP_PROXY": "p", "REQUEST_METHOD": "GET"}, "http", None),
        ({"ALL_PROXY": "p"}, "https", None),
    ],
)
def test_the_environment_s_proxy(environ: dict[str, str], scheme: str, found: str | None) -> None:
    proxy = from_environment(environ, scheme, "api.example", 443)
    assert (None if proxy is None else str(proxy)) == found


def test_a_proxy_of_the_environment_that_is_none_is_said() -> None:
    with pytest.raises(ValueError, match=r"^invalid proxy address in HTTPS_PROXY$"):
        from_environment({"HTTPS_PROXY": "http://u:pw@:x"}, "https", "api.example", 443)


def said(proxy: Proxy, *answers: bytes, host: str = "api.example") -> list[bytes]:
    """What is sent, when the proxy gives these answers."""
    steps = handshake(proxy, host, 6443)
    sent, pending = [], list(answers)
    try:
        data, _ = next(steps)
        while True:
            sent.append(data)
            data, _ = steps.send(pending.pop(0))
    except StopIteration:
        assert not pending
        return [data for data in sent if data]


CONNECT = b"CONNECT api.example:6443 HTTP/1.1\r\nHost: api.example:6443\r\n"


def test_connect() -> None:
    ok = b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert said(Proxy("http", "p", 1), ok) == [CONNECT + b"\r\n"]
    assert said(Proxy("http", "p", 1, "u", "p"), ok) == [CONNECT + b"Proxy-Authorization: Basic dTpw\r\n\r\n"]
    assert said(Proxy("https", "p", 1), ok, host="::1")[0].startswith(b"CONNECT [::1]:6443 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "^the proxy answered 407 Proxy Authentication Required$",
        ),
        (b"HTTP/1.0 503 \x1b[31m\r\n\r\n", r"^the proxy answered 503 \[31m$"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", r"^the proxy does not speak HTTP$"),
        (b"HTTP/1.1 ok\r\n\r\n", "^the proxy does not speak HTTP$"),
    ],
)
def test_a_connect_that_is_refused(answer: bytes, message: str) -> None:
    with pytest.raises(ProxyRefused, match=message):
        said(Proxy("http", "p", 1), answer)


NAMED = b"\x05\x01\x00\x03\x0bapi.example\x19\x2b"


def test_socks5() -> None:
    proxy = Proxy("socks5", "p", 1)
    v4 = (b"\x05\x00\x00\x01", b"\x00" * 6)
    assert said(proxy, b"\x05\x00", *v4) == [b"\x05\x01\x00", NAMED]
    assert said(proxy, b"\x05\x00", b"\x05\x00\x00\x04", b"\x00" * 18) == [b"\x05\x01\x00", NAMED]
    assert said(proxy, b"\x05\x00", b"\x05\x00\x00\x03", b"\x02", b"ab\x00\x00") == [b"\x05\x01\x00", NAMED]
    assert said(proxy, b"\x05\x00", *v4, host="10.0.0.1")[1] == b"\x05\x01\x00\x01\x0a\x00\x00\x01\x19\x2b"
    assert said(proxy, b"\x05\x00", *v4, host="::1")[1] == b"\x05\x01\x00\x04" + b"\x00" * 15 + b"\x01\x19\x2b"
    known = Proxy("socks5", "p", 1, "u", "pw")
    assert said(known, b"\x05\x02", b"\x01\x00", *v4) == [b"\x05\x02\x00\x02", b"\x01\x01u\x02pw", NAMED]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([b"HT"], "the proxy does not speak SOCKS5"),
        ([b"\x05\xff"], "no acceptable authentication methods"),
        ([b"\x05\x02"], "no acceptable authentication methods"),
        ([b"\x05\x00", b"\x05\x05\x00\x01"], "connection refused"),
        ([b"\x05\x00", b"\x05\x63\x00\x01"], "SOCKS reply 99"),
        ([b"\x05\x00", b"\x05\x00\x00\x09"], "the proxy does not speak SOCKS5"),
    ],
)
def test_a_socks5_proxy_that_refuses(answers: list[bytes], message: str) -> None:
    with pytest.raises(ProxyRefused, match=f"^{message}$"):
        said(Proxy("socks5", "p", 1), *answers)


def test_a_socks5_login_that_fails() -> None:
    with pytest.raises(ProxyRefused, match=r"^username/password authentication failed$"):
        said(Proxy("socks5", "p", 1, "u", "pw"), b"\x05\x02", b"\x01\x01")
    with pytest.raises(ProxyRefused, match=r"^invalid username/password$"):
        said(Proxy("socks5", "p", 1, "u", ""), b"\x05\x02")
