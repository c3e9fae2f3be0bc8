"""What browsers are made to do: requests that carry a credential which nobody meant to give.

Facts: Fetch Metadata Request Headers (Sec-Fetch-*), and Origin as RFC 6454 and the Fetch standard have it.
"""

from typing import TYPE_CHECKING, Final

from portway.gateway import headers as h
from portway.gateway.authentication import LOCAL
from portway.kube.errors import Forbidden

if TYPE_CHECKING:
    from portway.gateway.relay import Exchange

SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
OWN: Final = frozenset((b"same-origin", b"none"))
"""Sec-Fetch-Site of what no foreign page asked for."""


def guard(exchange: "Exchange", *, proxied: bool) -> None:
    """Refuses what another origin makes a browser send with the user's ambient credential (CSRF, cross-site
    WebSockets). Where nobody logs in, a foreign page may not even load anything from here, but link to it.
    """
    special = exchange.special
    origin = special.get(h.ORIGIN)
    if exchange.method in SAFE and not exchange.upgrade:
        logs_in = exchange.identity is None or exchange.identity.method != LOCAL
        if logs_in or (proxied and exchange.site is None):
            return  # a sandboxed page's own images and scripts come "cross-site"; what they answer can't be read
        foreign = special.get(h.FETCH_SITE, b"none") not in OWN and not is_link(special)
    elif origin is None:
        foreign = special.get(h.FETCH_SITE, b"none") not in OWN
    else:
        authority = origin.partition(b"://")[2].lower()
        foreign = not authority or authority != special.get(h.HOST, b"").lower()
    if foreign:
        raise Forbidden(
            "this request comes from a page of another origin, and browsers add your credential to it unasked; "
            "send it from a program with a token, or let an administrator turn the HTML sandbox off"
        )


def is_link(special: dict[int, bytes]) -> bool:
    """Whether a browser opens this as a document of its own: an address, a bookmark, a link."""
    return special.get(h.FETCH_MODE) == b"navigate" and special.get(h.FETCH_DEST) == b"document"
