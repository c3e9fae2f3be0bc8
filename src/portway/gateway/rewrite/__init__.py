"""Rewriting of what a backend answers, so that it works behind a prefix: Location, Set-Cookie, links in HTML.

Pure and synchronous; the relay feeds it and writes what comes out. It decides nothing about a connection: whether an
answer has a body to rewrite is `is_html`, what may go wrong is RewriteError.

links.py (Location, cookies, attributes) uses urls.py, cookies.py, entities.py; html.py uses links.py and markup.py;
encoding.py puts html.py between a decoder and an encoder of codings.py.
"""

from portway.gateway.rewrite.encoding import BodyRewriter, body_rewriter, is_html
from portway.gateway.rewrite.errors import RewriteError
from portway.gateway.rewrite.html import HtmlRewriter
from portway.gateway.rewrite.links import Links, MovedLinks

__all__ = ["BodyRewriter", "HtmlRewriter", "Links", "MovedLinks", "RewriteError", "body_rewriter", "is_html"]
