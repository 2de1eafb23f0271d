"""How well judges of regard agree with people: the labelled sentences of Sheng et al. (2019).

The judge "sentences" is made here: a logistic regression on the features of a sentence encoder, from the
212 sentences of the training part. One cell is one judge x part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from torch import Tensor

from ..language import sentences
from ..language.corpus import Bias, make_corpus, valence
from ..language.nlg import read_labelled
from ..language.regard import LABELS, Regard, Scorer, SentenceRegard, Sentiment, Valence
from ..language.sentences import READER, SentenceEncoder
from ..options import Choice, Filled, Name
from ..store import hub
from ..store.checkpoints import kept
from ..store.files import DataError, sha256sum
from .config import BaseConfig, Cell, Source, product, shown
from .runner import run

__all__ = ["JUDGES", "PARTS", "Config", "judge", "prepare", "run", "run_cell", "sources_of"]

#: The judges that are not classifiers of the hub: words of the planted corpus by their valence, a lexicon of
#: sentiment, and a regression on the features of sentences.
VALENCE, LEXICON, SENTENCES = JUDGES = ("valence", "vader", "sentences")

#: The data that need no folder: sentences of the planted corpus, whose valence is known.
PLANTED = "planted"
PARTS = ("train", "dev", "test")

# The regression of the book is made from Sheng et al.'s train.tsv, on the features of READER: their fingerprints.
_BOOKS = {"train": "2b734fae84fa82ae", "reader": "f4fdb791a82453a4"}
_C = 10.0


@dataclass(frozen=True)
class Config(BaseConfig):
    """What a comparison of judges runs. The first three fields span the table.

    Attributes
    ----------
    data : "planted", or a folder with train.tsv, dev.tsv and test.tsv as in the regard data of Sheng et al.,
        from whose train.tsv the judge "sentences" is made
    judges : "valence", "vader", "sentences", or classifiers on the hub or in folders
    parts : "train", "dev", "test"; the planted sentences are a test part
    reader : the sentence encoder of "sentences", on the hub or in a folder
    """

    spans = ("data", "judges", "parts", "reader")

    data: Name = PLANTED
    judges: Annotated[tuple[str, ...], Filled()] = (VALENCE, LEXICON)
    parts: Annotated[tuple[str, ...], Choice(PARTS)] = ("test",)
    reader: Name = READER

    @classmethod
    def quick(cls) -> Config:
        """Two judges on the planted corpus: seconds, no network."""
        return cls()

    @classmethod
    def people(cls) -> Config:
        """The book's judges on what people said of GPT-2's texts, in the folder nlg-bias."""
        return cls(data="nlg-bias", judges=(SENTENCES, LEXICON), parts=("dev", "test"))

    @classmethod
    def paper(cls) -> Config:
        """The hub's classifier of regard too; needs the network."""
        return cls(data="nlg-bias", judges=(*JUDGES[1:], "sasha/regardv3"), parts=("dev", "test"))

    def cells(self) -> list[Cell]:
        if self.data == PLANTED and self.parts != PARTS[-1:]:
            raise ValueError(
                f"the planted corpus has the part {PARTS[-1]} alone, got parts={self.parts}; the others are "
                "of labelled sentences: --data FOLDER"
            )
        judges = [shown(name, JUDGES) for name in self.judges]
        return product(data=[shown(self.data, (PLANTED,))], judge=judges, part=self.parts)

    def sources(self, cell: Mapping[str, Any]) -> dict[str, Source]:
        found = sources_of(self._name(cell), self.reader, self._folder)
        if self.data != PLANTED:
            found["sentences"] = (_file_fingerprint, self.data, cell["part"])
        return found

    @property
    def _folder(self) -> str:
        return "" if self.data == PLANTED else self.data

    def _name(self, cell: Mapping[str, Any]) -> str:
        """The judge of a cell, as it was given."""
        return next(name for name in self.judges if shown(name, JUDGES) == cell["judge"])


@lru_cache(maxsize=4)
def judge(name: str, device: str = "cpu", reader: str = READER, folder: str = "") -> Scorer:
    """The judge of a name.

    Parameters
    ----------
    name : str
        "valence", "vader", "sentences", or a classifier on the hub or in a folder.
    reader, folder : str
        Of "sentences": its sentence encoder, and where its training sentences are; empty: the regression
        that comes with the book.

    Raises
    ------
    DataError
        If a model or a file cannot be had; the message says what to do.
    """
    if name == VALENCE:
        return Valence(valence())
    if name == LEXICON:
        return Sentiment()
    if name != SENTENCES:
        return Regard(name, device=str(device))
    read = SentenceEncoder.from_pretrained(reader).to(device)
    made = _regression(read, _made_from(reader, folder) if folder else _BOOKS, folder)
    state = {key: value.to(device) for key, value in made.items()}
    if read(["a"]).shape[1] != state["weight"].shape[1]:
        raise DataError(
            f"the book's regression is for {READER}, but {str(reader)!r} is another sentence encoder: give that "
            "one, or make a regression of your own from labelled sentences (run regard --data FOLDER)"
        )
    return SentenceRegard(read, state["weight"], state["bias"])


def sources_of(name: str, reader: str = READER, folder: str = "") -> dict[str, Source]:
    """Fingerprints of what a judge is made from."""
    if name in (VALENCE, LEXICON):
        return {}
    if name != SENTENCES:
        return {"regard": (_regard_fingerprint, name)}
    found: dict[str, Source] = {"reader": (sentences.fingerprint, reader)}
    return found | ({"train": (_file_fingerprint, folder, "train")} if folder else {})


def _made_from(reader: str, folder: str) -> dict[str, str]:
    return {"train": _file_fingerprint(folder, "train"), "reader": sentences.fingerprint(reader)}


def _regression(read: SentenceEncoder, made_from: dict[str, str], folder: str) -> dict[str, Tensor]:
    """Weight (3, dim) and bias (3,) of the judge "sentences", kept once they are made."""

    def make() -> dict[str, Tensor]:
        from sklearn.linear_model import LogisticRegression

        texts, labels = read_labelled(_file(folder or "nlg-bias", "train"))
        known = [i for i, label in enumerate(labels) if label in LABELS[:3]]
        features = read([texts[i] for i in known]).double().cpu().numpy()
        fit = LogisticRegression(C=_C, max_iter=10_000)
        fit.fit(features, [LABELS.index(labels[i]) for i in known])
        return {
            "weight": torch.tensor(fit.coef_, dtype=torch.float32),
            "bias": torch.tensor(fit.intercept_, dtype=torch.float32),
        }

    return kept("regard", {**made_from, "C": _C}, make)


def _labelled(data: str, part: str) -> tuple[list[str], list[str]]:
    """Sentences and their labels: people's, or those that were planted."""
    if data != PLANTED:
        return read_labelled(_file(data, part))
    texts, words = make_corpus(300, Bias(), seed=2), valence()
    signs = [next((words[w] for w in text.split() if w in words), None) for text in texts]
    return texts, [LABELS[3] if sign is None else LABELS[1 + sign] for sign in signs]


def _file(folder: str, part: str) -> Path:
    path = Path(folder, f"{part}.tsv")
    if not path.is_file():
        raise DataError(
            f"there is no file {path}. It is part of the regard data of Sheng et al. (2019), data/regard of "
            "github.com/ewsheng/nlg-bias: copy {train,dev,test}.tsv into a folder, and give it: --data FOLDER"
        )
    return path


def _file_fingerprint(folder: str, part: str) -> str:
    return sha256sum(_file(folder, part))[:16]


def _regard_fingerprint(name: str) -> str:
    regard = cast("Regard", judge(name))
    return hub.fingerprint(regard.model, regard.tokenizer)


def prepare(config: Config, cells: list[dict], device: str) -> list[tuple]:
    """No tasks: judges are made in seconds."""
    judge.cache_clear()  # their files may have changed since an earlier run
    return []


def run_cell(config: Config, cell: dict, device: str = "cpu") -> dict[str, float]:
    """Judge all sentences of a part that people labelled negative, neutral or positive.

    Returns
    -------
    dict
        ``sentences``, how many; ``accuracy``, in percent; and the confusion matrix, as
        "negative as neutral": how many negative sentences were judged neutral.
    """
    texts, labels = _labelled(config.data, cell["part"])
    chosen = [i for i, label in enumerate(labels) if label in LABELS[:3]]
    judged = judge(config._name(cell), str(device), config.reader, config._folder)
    found = judged([texts[i] for i in chosen])
    pairs = Counter((labels[i], said) for i, said in zip(chosen, found, strict=True))
    right = sum(count for (label, said), count in pairs.items() if label == said)
    metrics = {"sentences": len(chosen), "accuracy": 100 * right / len(chosen)}
    return metrics | {f"{a} as {b}": pairs[a, b] for a in LABELS[:3] for b in LABELS}
