"""No secret that a URL carries reaches a log."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.record.redact import MARK, redacted, secret_name


@pytest.mark.parametrize(
    "uri",
    [
        b"/a?token=SECRET",
        b"/a?TOKEN=SECRET",
        b"/a?access_token=SECRET&x=1",
        b"/a?x=1&Access-Token=SECRET",
        b"/a?x=1;password=SECRET",
        b"/a?user[password]=SECRET",
        b"/a?%74oken=SECRET",
        b"/a?%54%4F%4B%45%4E=SECRET",
        b"/a?to%6ben=SECRET",
        b"/a?client_secret=SECRET",
        b"/a?api_key=SECRET",
        b"/a?apiKey=SECRET",
        b"/a?X-Amz-Signature=SECRET",
        b"/a?X-Amz-Security-Token=SECRET",
        b"/a?sig=SECRET",
        b"/a?code=SECRET&state=1",
        b"/a?key=SECRET",
        b"/a;jsessionid=SECRET",
        b"/a;jsessionid=SECRET?x=1",
        b"/a#access_token=SECRET",
        b"/a?next=https%3A%2F%2Fb%2F%3Ftoken%3DSECRET",
        b"/a?next=https://b/?token=SECRET",
        b"http://user:SECRET@host/a",
        b"//user:SECRET@host/a",
        b"/a?token=x=SECRET",
        b"/a?private_key=SECRET",
        b"/a?accessKey=SECRET",
        b"/a?auth-key=SECRET",
        b"/a?otp=SECRET",
        b"/a?sas=SECRET",
        b"/a?u=http://a:SECRET@h/",
        b"/a?u=http%3A%2F%2Fa:SECRET@h/",
        b"/a?%2574oken=SECRET",
        b"/a?next=https%253A%252F%252Fb%252F%253Ftoken%253DSECRET",
        b"/a?id_token=\xff\xfeSECRET",
    ],
)
def test_secrets_go(uri: bytes) -> None:
    assert "SECRET" not in redacted(uri)
    assert MARK in redacted(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "/",
        "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy/_search?q=user:kimchy",
        "/a?pretty=true&watch=1&resourceVersion=10",
        "/a?token",
        "/a?token=",
        "/a?&&=;",
        "/a@b",
        "/a?next=https%3A%2F%2Fb%2F%3Fpage%3D1",
        "/a?labelSelector=app%3Dtoken",
        "*",
        "",
    ],
)
def test_all_else_stays(uri: str) -> None:
    assert redacted(uri.encode()) == uri


def test_only_the_value_goes() -> None:
    assert redacted(b"/a?x=1&token=abc&y=2") == f"/a?x=1&token={MARK}&y=2"


@pytest.mark.parametrize(("name", "secret"), [("q", False), ("author", False), ("keyword", False), ("codec", False)])
def test_names_that_only_look_alike(name: str, secret: bool) -> None:
    assert secret_name(name) is secret


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise_and_the_result_is_json(data: bytes) -> None:
    json.loads(json.dumps(redacted(data))).encode()


@given(
    st.sampled_from(["token", "password", "access_token", "sig", "secret"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.booleans(),
)
def test_however_it_is_encoded(name: str, prefix: str, upper: bool) -> None:
    name = "".join(f"%{ord(c):02x}" for c in (name.upper() if upper else name))
    uri = f"/{quote(prefix)}?{quote(prefix, safe='')}=1&{name}=S3CR3T".encode()
    assert "S3CR3T" not in redacted(uri)
