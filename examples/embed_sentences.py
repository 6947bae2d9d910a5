"""How alike are two sentences? MiniLM (int8 weights) embeds them, the cosine of the embeddings answers.

    python examples/embed_sentences.py ["a sentence" ...]

One engine serves every batch size and sentence length.
"""

from __future__ import annotations

import argparse
import json
import time
import unicodedata
from pathlib import Path

import numpy as np
from models import fetch
from numpy.typing import NDArray

import tilewright

SAMPLES = ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The compiler emits PTX."]


class WordPiece:
    """BERT's uncased tokenizer: words and punctuation, each split greedily into the longest pieces."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary

    @classmethod
    def from_file(cls, path: Path) -> WordPiece:
        """Read the vocabulary from a tokenizer.json."""
        return cls(json.loads(path.read_text())["model"]["vocab"])

    def words(self, text: str) -> list[str]:
        """Lower case, accents removed, and every punctuation mark a word of its own."""
        decomposed = unicodedata.normalize("NFD", text.lower())
        plain = [letter for letter in decomposed if unicodedata.category(letter) != "Mn"]
        spaced = [letter if letter.isalnum() or letter.isspace() else f" {letter} " for letter in plain]
        return "".join(spaced).split()

    def pieces(self, word: str) -> list[int]:
        """The longest piece there is, again and again; [UNK] for a word that cannot be made of pieces."""
        numbers: list[int] = []
        start = 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self.vocabulary), None)
            if end is None:
                return [self.vocabulary["[UNK]"]]
            numbers.append(self.vocabulary[prefix + word[start:end]])
            start = end
        return numbers

    def encode(self, text: str) -> list[int]:
        """[CLS], the pieces of all words, [SEP]."""
        inside = [number for word in self.words(text) for number in self.pieces(word)]
        return [self.vocabulary["[CLS]"], *inside, self.vocabulary["[SEP]"]]


def batch(sentences: list[list[int]]) -> dict[str, NDArray[np.int64]]:
    """The model's three inputs [sentences, longest], padded with zeros that the mask hides."""
    longest = max(len(sentence) for sentence in sentences)
    ids = np.zeros((len(sentences), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = sentence
        mask[row, : len(sentence)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over the words that are not padding, then unit length: [n, s, 384] and [n, s] -> [n, 384]."""
    weight = mask[:, :, None].astype(np.float32)
    mean = (hidden * weight).sum(1) / weight.sum(1)
    return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def main() -> None:
    """Embed the sentences and print how alike each pair is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sentences", nargs="*", default=SAMPLES)
    sentences: list[str] = parser.parse_args().sentences
    tokenizer = WordPiece.from_file(fetch("minilm-tokenizer"))
    inputs = batch([tokenizer.encode(sentence) for sentence in sentences])

    started = time.perf_counter()
    engine = tilewright.compile(fetch("minilm-int8"))
    print(f"compiled in {time.perf_counter() - started:.2f} s: {len(engine.kernels)} kernels")
    with engine.session() as session:
        print(f"running on {session.device.description}")
        started = time.perf_counter()
        hidden = session.run(inputs)["last_hidden_state"]
        print(f"embedded {len(sentences)} sentences in {time.perf_counter() - started:.2f} s")
    embeddings = pool(hidden, inputs["attention_mask"])
    for first in range(len(sentences)):
        for second in range(first + 1, len(sentences)):
            cosine = float(embeddings[first] @ embeddings[second])
            print(f"{cosine:6.3f}  {sentences[first]!r} and {sentences[second]!r}")


if __name__ == "__main__":
    main()
