"""`--www`: files of one directory and nothing else, whatever is asked and whatever lies there."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portway.door import static
from portway.door.static import StaticFiles
from portway.kube.identity import User

SECRET = b"not for you"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("www")
    (top / "secret.txt").write_bytes(SECRET)
    (top / "outside").mkdir()
    (top / "outside" / "index.html").write_bytes(SECRET)
    (top / "www-other").mkdir()
    (top / "www-other" / "secret.txt").write_bytes(SECRET)
    www = top / "www"
    (www / "sub" / "deep").mkdir(parents=True)
    (www / "sub" / "index.html").write_bytes(b"<p>index")
    (www / "list").mkdir()
    (www / "list" / "b.txt").write_bytes(b"b")
    (www / "list" / "a dir").mkdir()
    (www / "list" / '<img src=x onerror="alert(1)">').write_bytes(b"")
    (www / "list" / "a&b?c#d%41.txt").write_bytes(b"odd")
    (www / "list" / "javascript:alert(1)").write_bytes(b"")
    (www / "app.js").write_bytes(b"js")
    (www / "data.bin").write_bytes(bytes(range(256)))
    (www / "page.html.gz").write_bytes(b"\x1f\x8b")
    (www / "caf\xe9.txt").write_bytes(b"cafe")
    (www / "out.txt").symlink_to(top / "secret.txt")
    (www / "out").symlink_to(top / "outside")
    (www / "in.js").symlink_to("app.js")
    (www / "loop").symlink_to("loop")
    (www / "nowhere").symlink_to("gone")
    (www / "indexed").mkdir()
    (www / "indexed" / "index.html").symlink_to(top / "secret.txt")
    os.mkfifo(www / "pipe")
    return www


@pytest.fixture(scope="module")
def files(root: Path) -> StaticFiles:
    return StaticFiles(root, "/static/")


def answered(files: StaticFiles, path: str) -> tuple[int, dict[str, str], bytes]:
    found = files.answer(path, "", page=False, host="localhost", user=User("ann"))
    assert found is not None
    code, head, body = found
    start, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines if line)
    assert start.startswith(f"HTTP/1.1 {code} ")
    assert int(fields["Content-Length"]) == len(body)
    return code, fields, body


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/static/app.js", "text/javascript; charset=utf-8", b"js"),
        ("/static/in.js", "text/javascript; charset=utf-8", b"js"),
        ("/static/data.bin", "application/octet-stream", bytes(range(256))),
        ("/static/page.html.gz", "application/gzip", b"\x1f\x8b"),
        ("/static/caf%C3%A9.txt", "text/plain; charset=utf-8", b"cafe"),
        ("/static/list/a%26b%3Fc%23d%2541.txt", "text/plain; charset=utf-8", b"odd"),
        ("/static/sub/", "text/html; charset=utf-8", b"<p>index"),
        ("/static/sub/index.html", "text/html; charset=utf-8", b"<p>index"),
        ("/static/sub/../app.js", "text/javascript; charset=utf-8", b"js"),
        ("/static/./app.js", "text/javascript; charset=utf-8", b"js"),
    ],
)
def test_files(files: StaticFiles, path: str, kind: str, body: bytes) -> None:
    code, fields, found = answered(files, path)
    assert (code, fields["Content-Type"], found) == (200, kind, body)
    assert fields["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("/static", "/static/"),
        ("/static/sub", "/static/sub/"),
        ("/static/list/a%20dir", "/static/list/a%20dir/"),
        ("/static/%73ub", "/static/sub/"),
        ("/static/sub/deep/..", "/static/sub/deep/../"),
    ],
)
def test_a_directory_ends_in_a_slash(files: StaticFiles, path: str, to: str) -> None:
    code, fields, body = answered(files, path)
    assert (code, fields["Location"], body) == (301, to, b"")


@pytest.mark.parametrize(
    "path", ["/", "/staticx", "/Static/app.js", "/api/v1", "/static2/app.js", "", "*", "/%73tatic/"]
)
def test_what_is_somebody_elses(files: StaticFiles, path: str) -> None:
    assert files.answer(path, "", page=True, host="localhost", user=User("ann")) is None


OUT = [
    "/static/../secret.txt",
    "/static/../www-other/secret.txt",
    "/static/sub/../../secret.txt",
    "/static/%2e%2e/secret.txt",
    "/static/%2E./secret.txt",
    "/static/..%2fsecret.txt",
    "/static/%2e%2e%2fsecret.txt",
    "/static/sub%2f..%2f..%2fsecret.txt",
    "/static//etc/passwd",
    "/static/%2fetc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/..\\secret.txt",
    "/static/out.txt",
    "/static/out",
    "/static/out/",
    "/static/out/index.html",
    "/static/indexed/",
    "/static/loop",
    "/static/loop/x",
    "/static/nowhere",
    "/static/pipe",
    "/static/gone",
    "/static/app.js/x",
    "/static/app.js%00.png",
    "/static/%00",
    "/static/" + "x" * 5000,
    "/static/" + "x/" * 3000,
    "/static/%ff%fe",
    "/static/%ed%b3%bf",
    "/static/../../../../../../../../etc/passwd",
]


@pytest.mark.parametrize("path", OUT, ids=range(len(OUT)))
def test_nothing_else_is_there(files: StaticFiles, path: str) -> None:
    code, _, body = answered(files, path)
    assert (code, body) == (404, b"404 page not found\n")


def test_a_list_of_a_directory(files: StaticFiles) -> None:
    code, fields, body = answered(files, "/static/list/")
    assert (code, fields["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = body.decode()
    assert text.index("a dir/") < text.index("b.txt")
    assert '<a href="a%20dir/">a dir/</a>' in text
    assert '<a href="a%26b%3Fc%23d%2541.txt">a&amp;b?c#d%41.txt</a>' in text
    assert '<a href="javascript%3Aalert%281%29">' in text
    assert "<img" not in text


def test_names_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe.txt")).write_bytes(b"bytes")
    files = StaticFiles(tmp_path, "/static/")
    code, _, body = answered(files, "/static/")
    assert code == 200
    assert b'href="%FF%FE.txt"' in body
    assert answered(files, "/static/%FF%FE.txt")[2] == b"bytes"


def test_what_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    monkeypatch.setattr(static, "LARGEST", 10)
    assert answered(StaticFiles(tmp_path, "/static/"), "/static/large")[0] == 413


@pytest.mark.parametrize("prefix", ["/static/", "static", "/static", "//static//"])
def test_prefixes(root: Path, prefix: str) -> None:
    assert answered(StaticFiles(root, prefix), "/static/app.js")[2] == b"js"


def test_files_at_the_root(root: Path) -> None:
    files = StaticFiles(root, "/")
    assert answered(files, "/app.js")[2] == b"js"
    assert answered(files, "/../secret.txt")[0] == 404
    assert answered(files, "//sub")[0] == 404  # never a redirect to a host of that name


PIECE = st.sampled_from(("..", ".", "", "sub", "out", "out.txt", "secret.txt", "%2e%2e", "..%2f", "www", "%00", "loop"))


@given(st.lists(PIECE, max_size=8), st.text(max_size=5))
@settings(deadline=None)
def test_no_path_leads_out(files: StaticFiles, pieces: list[str], more: str) -> None:
    code, fields, body = answered(files, "/static/" + "/".join(pieces) + quote(more))
    assert code in (200, 301, 404)
    assert SECRET not in body
    assert fields.get("Location", "/static/").startswith("/static/")
