"""Host names of services: which names mean one, which never do, and that both directions agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway.gateway.hosts import KEPT, LONGEST, Hosts, Site, without_port

HOSTS = Hosts(("localhost", "apps.example.org"), ("prod", "eu-1"))
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
LONGEST_LABEL = "a" * 63

FOUND = [
    ("web.demo.localhost", Site("", "demo", "web", "")),
    ("web.demo.localhost:8001", Site("", "demo", "web", "")),
    ("web.demo.localhost:", Site("", "demo", "web", "")),
    ("http.web.demo.localhost:80", Site("", "demo", "web", "http")),
    ("8080.web.demo.localhost", Site("", "demo", "web", "8080")),
    ("WEB.Demo.LOCALHOST:8001", Site("", "demo", "web", "")),
    ("web.demo.localhost.", Site("", "demo", "web", "")),
    ("web.demo.localhost.:8001", Site("", "demo", "web", "")),
    ("web.demo.prod.localhost", Site("prod", "demo", "web", "")),
    ("http.web.demo.eu-1.localhost", Site("eu-1", "demo", "web", "http")),
    ("web.prod.localhost", Site("", "prod", "web", "")),
    ("web.demo.apps.example.org", Site("", "demo", "web", "")),
    ("http.web.demo.prod.apps.example.org:443", Site("prod", "demo", "web", "http")),
    ("localhost.localhost.localhost", Site("", "localhost", "localhost", "")),
    ("1.2.localhost", Site("", "2", "1", "")),
    (
        f"{LONGEST_LABEL}.{LONGEST_LABEL}.{LONGEST_LABEL}.localhost",
        Site("", LONGEST_LABEL, LONGEST_LABEL, LONGEST_LABEL),
    ),
]

NOTHING = [
    "",
    ":8001",
    "localhost",
    "localhost:8001",
    "localhost.",
    "LOCALHOST",
    ".localhost",
    "..localhost",
    "demo.localhost",
    "prod.localhost",
    "apps.example.org",
    "demo.apps.example.org",
    "example.org",
    "web.demo.example.org",
    "a.b.c.d.localhost",
    "a.http.web.demo.prod.localhost",
    "web..localhost",
    ".web.demo.localhost",
    "web.demo..localhost",
    "-web.demo.localhost",
    "web-.demo.localhost",
    "w_b.demo.localhost",
    "*.demo.localhost",
    f"{LONGEST_LABEL}a.demo.localhost",
    "web.demo.localhost\n",
    "web.demo\n.localhost",
    "web\0.demo.localhost",
    "w\xe9b.demo.localhost",
    "web demo.demo.localhost",
    "user@web.demo.localhost",
    "web.demo.localhost@evil.example",
    "web.demo.localhost/x",
    # what a hostile domain may call itself
    "web.demo.localhost.evil.example",
    "web.demo.localhost.evil.example:8001",
    "web.demo.notlocalhost",
    "web.demo-localhost",
    "web.demolocalhost",
    "evil.example",
    "evil.example:8001",
    "web.demo.apps.example.org.evil.example",
    "web.demo.apps.example.com",
    # addresses
    "127.0.0.1",
    "127.0.0.1:8001",
    "[::1]",
    "[::1]:8001",
    "[::1].web.demo.localhost",
    "[web.demo.localhost]",
    "::1",
]


@pytest.mark.parametrize(("host", "site"), FOUND)
def test_hosts_of_services(host: str, site: Site) -> None:
    for _ in range(2):  # found, then known
        assert HOSTS.find(host.encode()) == site


@pytest.mark.parametrize("host", NOTHING)
def test_every_other_host_is_nobodys(host: str) -> None:
    for _ in range(2):
        assert HOSTS.find(host.encode("latin-1")) is None


SITES = st.builds(Site, st.sampled_from(("", "prod", "eu-1")), LABEL, LABEL, LABEL | st.just(""))


@given(SITES, st.sampled_from(("", ":1", ":8001", ".", ".:65535")), st.data())
def test_a_name_that_is_given_leads_back(site: Site, suffix: str, data: st.DataObject) -> None:
    name = HOSTS.host(site)
    if name is None:
        return  # a namespace that is called as a cluster, behind a port
    assert name.endswith(".localhost")
    cased = "".join(data.draw(st.sampled_from((c, c.upper()))) for c in name)
    assert HOSTS.find(f"{cased}{suffix}".encode()) == site
    assert HOSTS.find(f"{name}.evil.example".encode()) is None


@given(SITES)
def test_only_what_would_mean_another_one_has_no_name(site: Site) -> None:
    ambiguous = not site.cluster and site.namespace in ("prod", "eu-1") and bool(site.port)
    assert (HOSTS.host(site) is None) == ambiguous


@pytest.mark.parametrize(
    "site",
    [
        Site("", "demo", "web", "HTTP"),
        Site("", "demo", "web", "a_b"),
        Site("", "demo", "a.b", ""),
        Site("", "a.b", "web", ""),
        Site("", "demo", "", ""),
        Site("", "demo", "-", ""),
        Site("", "demo", "web", "a.b"),
        Site("unknown", "demo", "web", ""),
        Site("", "demo", "<script>", ""),
        Site("", "demo", "web\n", ""),
        Site("", "demo", LONGEST_LABEL + "a", ""),
        Site("", "prod", "web", "http"),
    ],
    ids=str,
)
def test_what_no_host_name_can_say(site: Site) -> None:
    assert HOSTS.host(site) is None


@given(st.binary(max_size=80))
def test_anything_may_be_asked(host: bytes) -> None:
    site = HOSTS.find(host)
    if site is not None:
        assert HOSTS.find((HOSTS.host(site) or "").encode()) == site


def test_a_flood_of_names_is_forgotten() -> None:
    hosts = Hosts(("localhost",))
    for i in range(KEPT * 2 + 1):
        hosts.find(b"a%d.demo.localhost" % i)
    hosts.find(b"web.demo.localhost:" + b"0" * LONGEST)
    assert len(hosts._known) <= KEPT
    assert max(map(len, hosts._known)) <= LONGEST


def test_an_empty_base_is_no_base() -> None:
    for base in ("", "."):
        hosts = Hosts((base,))
        assert hosts.find(b"web.demo.") is None
        assert hosts.find(b"web.demo.evil.example") is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8085", "localhost"),
        ("localhost", "localhost"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", ""),
        ("", ""),
        ("[", "[]"),
    ],
)
def test_without_port(host: str, name: str) -> None:
    assert without_port(host) == name
