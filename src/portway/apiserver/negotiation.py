"""How the client wants its answer: JSON, YAML or protobuf, and as what (Table, PartialObjectMetadata). Pure.

CBOR isn't offered: upstream has it behind a gate that is off. Tables have no protobuf form there either.
Source: k8s.io/apiserver/pkg/endpoints/handlers/negotiation and the order of github.com/munnerz/goautoneg; RFC 9110,
section 12.5.1. `render` makes the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from portway.apiserver.protobuf import MEDIA_TYPE
from portway.kube.errors import NotAcceptable

PRETTY_AGENTS = ("curl", "Wget", "Mozilla/5.0")
PARTIAL = "PartialObjectMetadata"
PARTIAL_LIST = "PartialObjectMetadataList"
MAX_ACCEPT = 4096
_TYPES = {"json": "application/json", "yaml": "application/yaml", "protobuf": MEDIA_TYPE}
_STREAM = ";stream=watch"


@dataclass(frozen=True, slots=True)
class Representation:
    """How to answer: `media` json, yaml or protobuf; `target` "" (the object itself), "Table" or PARTIAL."""

    media: str = "json"
    target: str = ""
    version: str = "v1"
    pretty: bool = False

    @property
    def content_type(self) -> str:
        """The Content-Type of a whole answer."""
        return _TYPES[self.media]

    @property
    def stream_type(self) -> str:
        """The Content-Type of a watch."""
        return self.content_type if self.media == "json" else self.content_type + _STREAM


@dataclass(frozen=True, slots=True)
class Offer:
    """What an answer can be made as, beside JSON.

    `protobuf` says that its kind has a protobuf form; `listing` that it is a list (whose metadata-only form has its own
    name); `stream` that it is a watch (which isn't offered as YAML). `targets` tells what becomes of a clause that asks
    for a Table or for metadata only: "all" grants it, "none" passes it over, "ignored" gives the object itself.
    """

    protobuf: bool = True
    listing: bool = False
    stream: bool = False
    targets: str = "all"

    @property
    def media(self) -> tuple[str, ...]:
        """What is offered, in upstream's order."""
        named = ("json",) if self.stream else ("json", "yaml")
        return (*named, "protobuf") if self.protobuf else named

    def accepts(self, media: str, clause: _Clause) -> bool:
        """Says whether a clause of an Accept header is met by `media`."""
        type_, target = _TYPES[media], clause.parameter("as")
        if clause.media not in (type_, "application/*", "*/*") or clause.parameter("stream") not in ("", "watch"):
            return False
        if not target or self.targets == "ignored":
            return True
        return self.targets == "all" and self._has(target, media, clause)

    def _has(self, target: str, media: str, clause: _Clause) -> bool:
        if clause.parameter("g") != "meta.k8s.io" or clause.parameter("v") not in ("v1", "v1beta1"):
            return False
        if target == "Table":
            return media != "protobuf"
        return target == (PARTIAL_LIST if self.listing else PARTIAL)


@dataclass(frozen=True, slots=True)
class _Clause:
    media: str
    parameters: tuple[tuple[str, str], ...]
    quality: float

    def parameter(self, name: str) -> str:
        return next((value for key, value in self.parameters if key == name), "")

    @property
    def rank(self) -> tuple[float, bool, bool]:
        """Sorts the best first: by quality, then by how much is named."""
        return -self.quality, self.media.startswith("*/"), self.media.endswith("/*")


PROTOBUF = Representation("protobuf")
_ANYTHING = Offer()


def negotiate(accept: str, pretty: str | None, agent: str, offer: Offer = _ANYTHING) -> Representation:
    """Returns what to answer to an Accept header; raises NotAcceptable.

    `pretty` is the query parameter of that name (None: not given), `agent` the User-Agent.
    """
    for clause in _clauses(accept[:MAX_ACCEPT]):
        media = next((media for media in offer.media if offer.accepts(media, clause)), None)
        if media is not None:
            return _chosen(media, clause, offer, _indented(pretty, agent) and media != "protobuf")
    offered = (_TYPES[media] + (_STREAM if offer.stream else "") for media in offer.media)
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(offered)}")


def negotiate_refusal(accept: str, pretty: str | None, agent: str) -> Representation:
    """Returns how to answer with an error: as negotiated, and as JSON to whom nothing is acceptable."""
    try:
        return negotiate(accept, pretty, agent, Offer(targets="none"))
    except NotAcceptable:
        return Representation()


def _indented(pretty: str | None, agent: str) -> bool:
    return pretty.lower() in ("1", "t", "true") if pretty else agent.startswith(PRETTY_AGENTS)


def _chosen(media: str, clause: _Clause, offer: Offer, pretty: bool) -> Representation:
    target = clause.parameter("as")
    if not target or offer.targets != "all":
        return Representation(media, pretty=pretty)
    return Representation(media, "Table" if target == "Table" else PARTIAL, clause.parameter("v"), pretty)


@lru_cache(maxsize=256)
def _clauses(accept: str) -> tuple[_Clause, ...]:
    """The media ranges of an Accept header, best first; no header accepts everything."""
    clauses = [_clause(part) for part in accept.split(",") if part.strip()]
    if not clauses:
        return (_Clause("*/*", (), 1.0),)
    return tuple(sorted((clause for clause in clauses if clause.quality > 0), key=lambda clause: clause.rank))


def _clause(text: str) -> _Clause:
    media, *rest = (part.strip() for part in text.split(";"))
    pairs = [part.partition("=") for part in rest]
    parameters = tuple((key.strip().lower(), value.strip().strip('"')) for key, _, value in pairs)
    try:
        quality = float(dict(parameters).get("q", "1"))
    except ValueError:
        quality = 0.0
    return _Clause(media.lower(), parameters, quality)
