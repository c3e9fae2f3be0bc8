"""A small inverted index: documents in, ranked ids out. What `query.py` asks; nothing here knows HTTP or JSON queries.

Ranking is BM25 with Lucene's constants (k1 = 1.2, b = 0.75), per field, so that scores mean what a reader of
Elasticsearch's documentation expects. Text is split into lower-case words of letters and digits, as the standard
analyser does for such text.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:[._'][^\W_]+)*")
_K1, _B = 1.2, 0.75

Scores = Mapping[int, float]
"""Document number → score: what matches."""


def analyse(value: object) -> list[str]:
    """The terms of a value, in order."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return _WORD.findall(str(value).lower())


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document."""

    id: str
    source: Mapping[str, Any]


class Index:
    """Documents and, per field and term, where the term stands. Document numbers count from 0 and are never reused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.documents: dict[int, Document] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._postings: dict[str, dict[str, dict[int, list[int]]]] = defaultdict(lambda: defaultdict(dict))
        self._lengths: dict[str, dict[int, int]] = defaultdict(dict)

    @property
    def fields(self) -> list[str]:
        """Every field that was ever seen, sorted."""
        return sorted(self._postings)

    def put(self, document: Document) -> bool:
        """Add a document, or replace the one of that id; whether it is new."""
        old = self._numbers.get(document.id)
        if old is not None:
            self._remove(old)
        number, self._next = self._next, self._next + 1
        self.documents[number] = document
        self._numbers[document.id] = number
        for field, value in document.source.items():
            terms = [term for one in _values(value) for term in analyse(one)]
            self._lengths[field][number] = len(terms)
            for position, term in enumerate(terms):
                self._postings[field][term].setdefault(number, []).append(position)
        return old is None

    def find(self, id_: str) -> Document | None:
        """The document of an id."""
        number = self._numbers.get(id_)
        return None if number is None else self.documents[number]

    def everything(self) -> Scores:
        """All documents, each as good as the other."""
        return dict.fromkeys(self.documents, 1.0)

    def term(self, field: str, term: str) -> Scores:
        """Documents whose field holds the term, by BM25."""
        found = self._postings[field].get(term, {}) if field in self._postings else {}
        if not found:
            return {}
        lengths = self._lengths[field]
        average = sum(lengths.values()) / len(lengths) or 1.0
        rarity = math.log(1 + (len(lengths) - len(found) + 0.5) / (len(found) + 0.5))
        return {number: rarity * _frequency(len(at), lengths[number] / average) for number, at in found.items()}

    def prefix(self, field: str, start: str) -> Scores:
        """Documents whose field holds a term that starts so; each scores 1, as Lucene's rewritten prefix queries do."""
        if field not in self._postings:
            return {}
        numbers = {n for term, found in self._postings[field].items() if term.startswith(start) for n in found}
        return dict.fromkeys(numbers, 1.0)

    def phrase(self, field: str, terms: list[str]) -> Scores:
        """Documents whose field holds the terms side by side; scored as the terms together."""
        each = [self.term(field, term) for term in terms]
        together = set.intersection(*(set(scores) for scores in each)) if each else set()
        found = {}
        for number in together:
            places = [self._postings[field][term][number] for term in terms]
            if any(all(start + i in at for i, at in enumerate(places)) for start in places[0]):
                found[number] = sum(scores[number] for scores in each)
        return found

    def exists(self, field: str) -> Scores:
        """Documents that have the field."""
        return dict.fromkeys(self._lengths.get(field, {}), 1.0)

    def _remove(self, number: int) -> None:
        document = self.documents.pop(number)
        del self._numbers[document.id]
        for field in document.source:
            self._lengths[field].pop(number, None)
            for found in self._postings[field].values():
                found.pop(number, None)


def _frequency(count: int, relative_length: float) -> float:
    return (_K1 + 1) * count / (count + _K1 * (1 - _B + _B * relative_length))


def _values(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else (value,)
