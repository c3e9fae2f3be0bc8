"""Set-Cookie, scoped: a cookie that a service sets is sent back to that service only.

Behind one host name every service shares a cookie jar. kube-apiserver passes Set-Cookie on as it came, so the
"Path=/" cookie of one reaches all the others, and the API. Here Path is moved under the service's prefix, and Domain is
dropped, which leaves the cookie with the door's own host name (RFC 6265 section 5.3, host-only).

A cookie without a (valid) Path stays as it is: the browser's default is the directory of the request's URL, which is
under the prefix already. A `__Host-` cookie must have "Path=/"; once scoped, browsers refuse it. That is meant: with
"Path=/" it would be every other service's to read. Such an application needs a host name of its own.
"""


def scope(value: bytes, prefix: bytes, there: bytes = b"") -> bytes:
    """The Set-Cookie field value `value`, its path under `prefix` ("/api/…/proxy", no slash at the end).

    `there` is the prefix that somebody nearer to the backend may have scoped it to already; "" = nobody did.
    """
    pair, *attributes = value.split(b";")
    scoped = [pair, *(new for old in attributes if (new := _attribute(old, prefix, there)) is not None)]
    return value if scoped == [pair, *attributes] else b";".join(scoped)


def _attribute(attribute: bytes, prefix: bytes, there: bytes) -> bytes | None:
    """One attribute as it shall be; None drops it."""
    name, _, path = attribute.partition(b"=")
    kind = name.strip().lower()
    if kind == b"domain":
        return None
    path = path.strip()
    if kind == b"path" and there and there != prefix and is_under(path, there):
        return name + b"=" + prefix + (path[len(there) :] or b"/")
    if kind != b"path" or not path.startswith(b"/") or is_under(path, prefix):
        return attribute
    return name + b"=" + prefix + path


def is_under(path: bytes, prefix: bytes) -> bool:
    """Whether `path` is `prefix` itself or below it, by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/")
