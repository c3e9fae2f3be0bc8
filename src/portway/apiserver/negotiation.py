"""How the client wants its answer: JSON or YAML, and as what (Table, PartialObjectMetadata). Pure.

Protobuf is never answered: every client that asks for it takes JSON too (client-go always offers both).
Source: k8s.io/apiserver/pkg/endpoints/handlers/negotiation; RFC 9110, section 12.5.1. `render` makes the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from portway.kube.errors import NotAcceptable

PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
MAX_ACCEPT = 4096


@dataclass(frozen=True, slots=True)
class Representation:
    """How to answer: `media` json or yaml; `target` "" (the object itself), "Table" or PARTIAL (lists included)."""

    media: str = "json"
    target: str = ""
    version: str = "v1"
    pretty: bool = False

    @property
    def content_type(self) -> str:
        """The answer's Content-Type."""
        return f"application/{self.media}"


@dataclass(frozen=True, slots=True)
class _Clause:
    media: str
    parameters: tuple[tuple[str, str], ...]
    quality: float

    def parameter(self, name: str) -> str:
        return next((value for key, value in self.parameters if key == name), "")


def negotiate(
    accept: str, pretty: str | None, agent: str, *, listing: bool = False, plain: bool = False
) -> Representation:
    """Returns what to answer to an Accept header; raises NotAcceptable.

    `pretty` is the query parameter of that name (None: not given), `agent` the User-Agent; `listing` says that the
    answer is a list (whose metadata-only form has its own name); `plain` that nothing but the object itself is offered.
    """
    indent = pretty.lower() in ("1", "t", "true") if pretty else agent.startswith(PRETTY_AGENTS)
    for clause in _clauses(accept[:MAX_ACCEPT]):
        media = {"application/json": "json", "*/*": "json", "application/*": "json", "application/yaml": "yaml"}.get(
            clause.media
        )
        if media is None:
            continue
        target = clause.parameter("as")
        if not target or plain:
            return Representation(media, pretty=indent)
        if _offered(clause, target, listing):
            version = clause.parameter("v")
            return Representation(media, "Table" if target == "Table" else PARTIAL, version, indent)
    raise NotAcceptable("only the following media types are accepted: application/json, application/yaml")


def _offered(clause: _Clause, target: str, listing: bool) -> bool:
    if clause.parameter("g") != "meta.k8s.io" or clause.parameter("v") not in ("v1", "v1beta1"):
        return False
    return target == "Table" or target == (PARTIAL_LIST if listing else PARTIAL)


@lru_cache(maxsize=256)
def _clauses(accept: str) -> tuple[_Clause, ...]:
    """The media ranges of an Accept header, best first; no header accepts everything."""
    clauses = [_clause(part) for part in accept.split(",") if part.strip()]
    if not clauses:
        return (_Clause("*/*", (), 1.0),)
    return tuple(sorted((clause for clause in clauses if clause.quality > 0), key=lambda clause: -clause.quality))


def _clause(text: str) -> _Clause:
    media, *rest = (part.strip() for part in text.split(";"))
    pairs = [part.partition("=") for part in rest]
    parameters = tuple((key.strip().lower(), value.strip().strip('"')) for key, _, value in pairs)
    try:
        quality = float(dict(parameters).get("q", "1"))
    except ValueError:
        quality = 0.0
    return _Clause(media.lower(), parameters, quality)
