"""Running text as windows of tokens: what a language model learns from, and is measured on.

Tokens are bytes (256 of them, any file will do) or words (runs of letters and digits, single signs, line ends; the
commonest of the training part make up the vocabulary). Each document is cut into stretches, for training, validation
and test in this order; the stretches of a part are joined and cut into windows. A window's labels are its tokens
moved on by one, so every token of a part but the first is predicted once, and what fills no window at the end is left.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfapp.data import files
from tfapp.data.examples import Data, Dropped, Examples
from tfapp.data.files import Paths
from tfapp.errors import Missing, Usage

SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".html", ".xml", ".log", ".py", ".c", ".h", ".js", ".java", ".go")
WORD = re.compile(r"\w+|[^\w\s]|\n")
UNKNOWN = "<unknown>"
BYTES = tuple(repr(bytes([number]))[2:-1] for number in range(256))
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Vocabulary:
    """Between text and token ids.

    Attributes:
      words: the words by their ids, the first standing for all that are not there; None: the tokens are bytes.
    """

    words: tuple[str, ...] | None = None

    @classmethod
    def of(cls, classes: Sequence[str]) -> Vocabulary:
        """The vocabulary that `Data.classes` names."""
        return cls(None if tuple(classes) == BYTES else tuple(classes))

    @classmethod
    def learned(cls, texts: Sequence[Sequence[str]], size: int) -> Vocabulary:
        """The `size` commonest words; of equally common ones the first in the alphabet."""
        counts = Counter(word for text in texts for word in text)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((UNKNOWN, *ordered[: size - 1]))

    @property
    def names(self) -> tuple[str, ...]:
        """What to call each token."""
        return BYTES if self.words is None else self.words

    def ids(self, text: bytes) -> np.ndarray:
        """int32 token ids of a text. Bytes that are not UTF-8 are tokens like any others, or «�» among words."""
        if self.words is None:
            return np.frombuffer(text, np.uint8).astype(np.int32)
        return self.numbers(split(text))

    def numbers(self, words: Sequence[str]) -> np.ndarray:
        """int32 ids of words."""
        return np.fromiter((self._number.get(word, 0) for word in words), np.int32, len(words))

    def text(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of token ids; words are set apart by spaces."""
        if self.words is None:
            return bytes(int(number) for number in ids).decode("utf-8", "replace")
        return " ".join(self.words[int(number)] for number in ids).replace(" \n ", "\n")

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words or ())}


def split(text: bytes) -> list[str]:
    """The words, signs and line ends of a UTF-8 text; bytes that are not UTF-8 become «�»."""
    return WORD.findall(text.decode("utf-8", "replace"))


def read(
    paths: Paths,
    tokens: Literal["bytes", "words"],
    length: int,
    vocabulary: int,
    shares: tuple[float, float],
    *,
    validation: Paths = (),
    test: Paths = (),
) -> Data:
    """Text files as windows in three parts.

    Args:
      paths: files, folders or globs. Of files with equal content only one is read.
      tokens, length: what a token is, and tokens a window.
      vocabulary: most different words, for tokens=words.
      shares: of each document that is for validation and for test, in [0, 1), where no files are given for these.
      validation, test: files with these parts.

    Raises:
      Missing: a path that is not there, or nothing to read. Usage: the shares leave nothing to train on.
    """
    dropped: list[Dropped] = []
    seen: dict[bytes, str] = {}
    # What is kept for the test must not be learned from: so its copies elsewhere are what goes.
    given = {
        part: _documents(where, seen, dropped) if where else {}
        for part, where in (("test", test), ("validation", validation), ("train", paths))
    }
    shares = (0.0 if validation else shares[0], 0.0 if test else shares[1])
    return cut(given.pop("train"), tokens, length, vocabulary, shares, given, tuple(dropped))


def cut(
    documents: Mapping[str, bytes],
    tokens: Literal["bytes", "words"],
    length: int,
    vocabulary: int,
    shares: tuple[float, float],
    given: Mapping[str, Mapping[str, bytes]] | None = None,
    dropped: tuple[Dropped, ...] = (),
) -> Data:
    """Documents as windows in three parts.

    Args:
      documents: name -> text in UTF-8. tokens, length, vocabulary, shares: as for `read`.
      given: whole documents for "validation" and "test".
      dropped: what was left out before.
    """
    if sum(shares) >= 1:
        raise Usage(f"validation ({shares[0]}) and test ({shares[1]}) leave nothing to train on\ngive them less")
    pieces: dict[str, list[tuple[str, int, Any]]] = {part: [] for part in PARTS}
    for name, text in documents.items():
        units = _units(text, tokens)
        ends = [round(len(units) * share) for share in (1 - sum(shares), 1 - shares[1], 1)]
        for part, start, end in zip(PARTS, [0, *ends], ends, strict=False):
            pieces[part].append((name, start, units[start:end]))
    for part, texts in (given or {}).items():
        pieces[part] += [(name, 0, _units(text, tokens)) for name, text in texts.items()]
    known = Vocabulary()
    if tokens == "words":
        known = Vocabulary.learned([units for _, _, units in pieces["train"]], vocabulary)
    train, validation, test = parts = [_windows(pieces[part], known, length) for part in PARTS]
    if not len(train):
        whole = sum(len(units) for _, _, units in pieces["train"])
        raise Missing(
            f"the text to train on has {whole:,} {tokens}, and a window of length={length} needs {length + 1:,}\n"
            "give more text, or a smaller length"
        )
    unknown = np.mean([(part.labels == 0).mean() for part in parts[1:] if len(part)] or [0])
    notes = [
        f"{sum(part.labels.size for part in parts):,} {tokens} in windows of {length}, of {len(documents):,} texts"
    ]
    if known.words is not None:
        notes.append(f"vocabulary: {len(known.words):,} words; {unknown:.1%} of the words kept aside are not in it")
    return Data(
        train,
        validation,
        test,
        task="language",
        kind="tokens",
        classes=known.names,
        target="the next " + tokens.removesuffix("s"),
        reader={"tokens": tokens, "length": length},
        dropped=dropped,
        notes=tuple(notes),
    )


def standard_library() -> dict[str, bytes]:
    """Text that is on every machine: the docstrings of the standard library's modules, a document a module.

    About 0.8 MB of English, signatures and examples. Each paragraph is taken once. They are read from the sources and
    not imported; 3.11's patch releases change a few of them.

    Raises:
      Missing: this Python has no sources of its library (an embedded one).
    """
    seen: set[str] = set()
    documents = {}
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(file.read_bytes())
        found = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
        # Paragraphs that stand in many docstrings would be learned by heart, and tested on.
        paragraphs = dict.fromkeys(paragraph for text in found for paragraph in text.split("\n\n") if paragraph.strip())
        fresh = [paragraph for paragraph in paragraphs if paragraph not in seen]
        seen.update(fresh)
        if fresh:
            documents[file.name] = ("\n\n".join(fresh) + "\n\n").encode("utf-8", "replace")
    if not documents:
        raise Missing("this Python comes without the sources of its library\ngive text of your own: data=FILE")
    return documents


def read_new(reader: Mapping[str, Any], paths: Paths) -> tuple[list[bytes], list[str], list[Dropped]]:
    """Text files for a model to go on from, as they are; names; and what was dropped."""
    dropped: list[Dropped] = []
    found = _documents(paths, {}, dropped)
    return list(found.values()), list(found), dropped


def read_labelled(
    reader: Mapping[str, Any], classes: Sequence[str], paths: Paths
) -> tuple[Examples, tuple[Dropped, ...]]:
    """New text files as windows, and what was dropped.

    Raises:
      Missing: the text fills no window.
    """
    dropped: list[Dropped] = []
    known = Vocabulary.of(classes)
    pieces = [(name, 0, _units(text, reader["tokens"])) for name, text in _documents(paths, {}, dropped).items()]
    examples = _windows(pieces, known, reader["length"])
    if not len(examples):
        raise Missing(f"the text in {paths} is shorter than a window of {reader['length']} {reader['tokens']}")
    return examples, tuple(dropped)


def _documents(paths: Paths, seen: dict[bytes, str], dropped: list[Dropped]) -> dict[str, bytes]:
    """Name -> content of the files that are not empty and not copies of what was `seen`."""
    found = files.find(paths, SUFFIXES)
    documents = {}
    for file, name in files.call(found).items():
        try:
            text = file.read_bytes().removeprefix(b"\xef\xbb\xbf")
        except OSError as error:
            dropped.append(Dropped(name, f"cannot be read: {error.strerror}"))
            continue
        if not text.strip():
            dropped.append(Dropped(name, "empty"))
        elif text in seen:
            dropped.append(Dropped(name, f"the same text as {seen[text]}"))
        else:
            seen[text] = name
            documents[name] = text
    return documents


def _units(text: bytes, tokens: str) -> Any:
    return text if tokens == "bytes" else split(text)


def _windows(pieces: Sequence[tuple[str, int, Any]], known: Vocabulary, length: int) -> Examples:
    """Stretches of documents, each (name, where it starts, its tokens), as windows one after another."""
    ids = [known.ids(units) if isinstance(units, bytes) else known.numbers(units) for _, _, units in pieces]
    stream = np.concatenate([np.zeros(0, np.int32), *ids])
    n = max(0, len(stream) - 1) // length
    begins = np.cumsum([0, *map(len, ids)])[:-1] if ids else np.zeros(0, int)
    starts = np.arange(n) * length
    owner = np.searchsorted(begins, starts, side="right") - 1
    names = [
        f"{pieces[own][0]}:{pieces[own][1] + start - begins[own]}" for own, start in zip(owner, starts, strict=True)
    ]
    return Examples(
        stream[: n * length].reshape(n, length),
        stream[1 : n * length + 1].reshape(n, length),
        np.array(names, object) if n else np.zeros(0, object),
    )
