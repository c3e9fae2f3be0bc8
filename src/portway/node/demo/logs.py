"""The demo's log lines: a day of a small web application, always the same lines, always ending now.

Written for this demo. Times are relative to the start of the process, so that a dashboard of the last hours has
something to show; everything else comes from a seeded generator.
"""

import datetime
import random
from typing import Any

COUNT = 480
_SEED = 20
_USERS = ("kimchy", "mara", "okonkwo", "yuki", "ines", "jonas", "minjun", "svc-backup")
_USER_WEIGHTS = (4, 9, 7, 8, 6, 5, 7, 3)
_PATHS = ("/", "/login", "/cart", "/checkout", "/search", "/products/42", "/products/7", "/api/orders", "/health")
_CONTAINERS = ("web", "web", "web", "checkout", "search", "auth")
_STATUS = {"info": (200, 200, 200, 200, 201, 302, 304), "warn": (400, 403, 404, 409), "error": (500, 503)}
_TEXTS = {
    "web": (
        ("info", "served {path} in {ms} ms"),
        ("info", "rendered page {path}"),
        ("info", "served {path} from the cache"),
        ("warn", "client closed the connection early"),
        ("error", "backend for {path} did not answer"),
    ),
    "checkout": (
        ("info", "order accepted"),
        ("info", "order accepted, gift wrapped"),
        ("warn", "order rejected: card declined"),
        ("error", "payment provider timed out after {ms} ms"),
    ),
    "search": (("info", "query took {ms} ms"), ("info", "index refreshed"), ("warn", "slow query: {ms} ms")),
    "auth": (("info", "login succeeded"), ("info", "session expired"), ("warn", "login failed: wrong password")),
}
_BY_KIMCHY = (("info", "trying out the search, so far so good?"), ("info", "will this line be found again?"))


def generate(now: datetime.datetime, count: int = COUNT) -> list[dict[str, Any]]:
    """`count` documents in order of time, the last one at `now`."""
    chance = random.Random(_SEED)
    # Busy hours: a line's age is drawn so that the last hours hold more lines than the first ones.
    ages = sorted((86400 * chance.random() ** 1.6 for _ in range(count)), reverse=True)
    ages[-1] = 0.0
    return [_line(chance, now - datetime.timedelta(seconds=age)) for age in ages]


def _line(chance: random.Random, when: datetime.datetime) -> dict[str, Any]:
    container = chance.choice(_CONTAINERS)
    user = chance.choices(_USERS, _USER_WEIGHTS)[0]
    path, took = chance.choice(_PATHS), int(chance.lognormvariate(3.4, 0.8)) + 1
    level, text = chance.choice(_TEXTS[container] + (_BY_KIMCHY if user == "kimchy" else ()))
    return {
        "@timestamp": timestamp(when),
        "user": user,
        "level": level,
        "container": container,
        "path": path,
        "status": chance.choice(_STATUS[level]),
        "took_ms": took,
        "message": text.format(path=path, ms=took),
    }


def timestamp(when: datetime.datetime) -> str:
    """Milliseconds and Z, as Elasticsearch writes dates."""
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"
