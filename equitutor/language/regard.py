"""How texts speak of the people they are about: regard (Sheng et al., 2019).

A scorer is any function from a list of texts to a list of labels, each one of :data:`LABELS`.
:class:`Regard` is a classifier of the Hugging Face hub, :class:`SentenceRegard` a linear one on the features
of a sentence encoder, :class:`Sentiment` a lexicon, and :class:`Valence` goes by words of known valence.
:class:`Blind` hides the listed words from any of them.
"""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from ..store.hub import from_hub
from .inputs import as_list, as_words, context_length
from .spellings import marks

__all__ = [
    "LABELS",
    "Blind",
    "Regard",
    "Scorer",
    "SentenceRegard",
    "Sentiment",
    "Valence",
    "judged",
    "regard_shares",
]

LABELS = ("negative", "neutral", "positive", "other")

_UNSAID = 10**9  # no text is as long: a tokenizer that knows no limit says 1e30


class Scorer(Protocol):
    """A function from texts to their labels, each one of :data:`LABELS`."""

    def __call__(self, texts: Sequence[str]) -> list[str]: ...


class Regard:
    """The regard classifier: a text-classification model of the Hugging Face hub.

    Parameters
    ----------
    name : str
        A model on the hub, or a folder with its files.
    labels : mapping of str to str, optional
        What the classifier's own labels mean, where their names are not among :data:`LABELS`.
    batch_size : int
        Texts judged at a time, if they have equally many tokens: nothing is padded.
    device : str, optional
        Default: the GPU if there is one, else the CPU.

    Raises
    ------
    DataError
        The model could not be loaded; the message says what to do.
    ValueError
        A label of the classifier is not in :data:`LABELS`, and `labels` does not say what it means.
    """

    def __init__(
        self,
        name: str = "sasha/regardv3",
        labels: Mapping[str, str] | None = None,
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        classes = AutoTokenizer, AutoModelForSequenceClassification
        self.tokenizer, self.model = from_hub("regard classifier", name, *classes)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device).eval()
        self.batch_size = batch_size
        self._takes = inspect.signature(self.model.forward).parameters
        self.labels = _translated(self.model.config.id2label, labels or {}, name)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The label of each text, whatever the others are. Texts too long for the classifier are cut.

        Raises
        ------
        ValueError
            A text has no tokens.
        """
        texts = as_list(texts)
        if not texts:
            return []
        limit = self._longest()
        kept = {"truncation": True, "max_length": limit} if limit else {}
        rows = self.tokenizer(texts, **kept)
        ids = rows["input_ids"]
        if not all(ids):
            raise ValueError(
                f"the text {texts[ids.index([])]!r} has no tokens for the classifier to judge: leave it "
                "out"
            )
        labels: dict[int, str] = {}
        for batch in self._batches(ids):
            inputs = {
                k: torch.tensor([rows[k][i] for i in batch]) for k in rows if k in self._takes
            }
            out = self.model(**{k: v.to(self.device) for k, v in inputs.items()})
            best = out.logits.argmax(-1).tolist()
            labels |= {i: self.labels[label] for i, label in zip(batch, best, strict=True)}
        return [labels[i] for i in range(len(texts))]

    def _batches(self, rows: list[list[int]]) -> Iterator[list[int]]:
        """Batches of places, of rows of one length: classifiers differ in what they make of padding."""
        config = self.model.config.get_text_config()
        eos: Any = getattr(config, "eos_token_id", None)
        # Models that judge by the last token that is no padding know it only in a single text then.
        size = 1 if getattr(config, "pad_token_id", None) is None else self.batch_size

        def kind(place: int) -> tuple[int, int]:  # BART wants as many <eos> in each row of a batch
            return len(rows[place]), sum(token == eos for token in rows[place])

        for _, same in groupby(sorted(range(len(rows)), key=kind), kind):
            places = list(same)
            yield from (places[i : i + size] for i in range(0, len(places), size))

    def _longest(self) -> int | None:
        """How many tokens of a text are kept: what the model was made for, and its tokenizer allows."""
        limits = [context_length(self.model), self.tokenizer.model_max_length]
        return min((n for n in limits if n and n < _UNSAID), default=None)


class Valence:
    """A scorer by words of known valence: the sign of the sum over the words in a text.

    A text with none of the words is labelled "other".

    Parameters
    ----------
    words : dict of str to int
        Word -> valence; 0 for neutral words. Upper and lower case are different words.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        if not words:
            raise ValueError("Valence needs at least one word")
        self.words = dict(words)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return [self._label(text) for text in as_list(texts)]

    def _label(self, text: str) -> str:
        valences = [self.words[w] for w in re.findall(r"[\w'-]+", text) if w in self.words]
        if not valences:
            return "other"
        total = sum(valences)
        return LABELS[1 + (total > 0) - (total < 0)]


class SentenceRegard:
    """A linear classifier on the features of a sentence encoder.

    Parameters
    ----------
    read : callable
        From N texts to their features, (N, dim), such as
        :class:`equitutor.language.sentences.SentenceEncoder`.
    weight, bias : (labels, dim), (labels,) tensors
    labels : sequence of str
        What each row of the weight stands for, out of :data:`LABELS`.
    batch_size : int
        Texts read at a time.

    Raises
    ------
    ValueError
        If weight, bias and labels do not fit together.
    """

    def __init__(
        self,
        read: Callable[[list[str]], Tensor],
        weight: Tensor,
        bias: Tensor,
        labels: Sequence[str] = LABELS[:3],
        batch_size: int = 64,
    ) -> None:
        if weight.dim() != 2 or bias.shape != (len(labels),) or len(weight) != len(labels):
            raise ValueError(
                f"for {len(labels)} labels, weight must be ({len(labels)}, dim) and bias ({len(labels)},); got "
                f"{tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        if unknown := [label for label in labels if label not in LABELS]:
            raise ValueError(f"labels must be among {', '.join(LABELS)}; got {unknown[0]!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.read, self.weight, self.bias = read, weight, bias
        self.labels, self.batch_size = tuple(labels), batch_size

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[str]:
        texts, found = as_list(texts), []
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            seen = self.read(batch).to(self.weight)  # (B, dim)
            if seen.shape != (len(batch), self.weight.shape[1]):
                raise ValueError(
                    f"of {len(batch)} texts the features must be ({len(batch)}, {self.weight.shape[1]}), as "
                    f"the weight has it; got {tuple(seen.shape)}"
                )
            scores = seen @ self.weight.T + self.bias
            if bool((unknown := scores.isnan().any(1)).any()):
                text = batch[int(unknown.nonzero()[0])]
                raise ValueError(
                    f"no label can be told of {text!r}: its features or the weights are NaN"
                )
            found += scores.argmax(1).tolist()
        return [self.labels[i] for i in found]


class Sentiment:
    """A scorer by VADER, a lexicon of sentiment (Hutto & Gilbert, ICWSM 2014; package vaderSentiment).

    A text is positive from a compound score of 0.05 on, negative from -0.05 down, as its authors say.
    Sentiment is not regard: "she was known for her battle with cancer" is sad, and speaks well of her.

    Raises
    ------
    ImportError
        If the package is missing.
    """

    def __init__(self) -> None:
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ImportError as error:
            raise ImportError(
                "this judge needs a package that is not installed: pip install vaderSentiment"
            ) from error
        self._scores = SentimentIntensityAnalyzer().polarity_scores

    def __call__(self, texts: Sequence[str]) -> list[str]:
        compound = [self._scores(text)["compound"] for text in as_list(texts)]
        return [LABELS[1 + (c >= 0.05) - (c <= -0.05)] for c in compound]


class Blind:
    """A scorer that reads "XYZ" for each of some words, and so cannot judge by them.

    Texts that are equal but for these words get the same label. The words are masked with capitals, before an
    apostrophe or a hyphen and so on, whatever blanks a phrase has, but not as a part of another word: "Whitehall"
    stays, and so do plurals such as "Blacks", unless they are listed, too. The scorer reads composed characters
    (Unicode's NFC). Sheng et al. (2019) trained their classifier on texts that begin with XYZ.

    >>> Blind(scorer, ["the Black person", "the White person", "Black", "White"])

    Parameters
    ----------
    scorer : Scorer
    words : words or phrases
        The longest that fits is masked.

    Raises
    ------
    TypeError, ValueError
        If the scorer cannot be called, or words are no words.
    """

    def __init__(self, scorer: Scorer, words: Iterable[str]) -> None:
        if not callable(scorer):
            raise TypeError(f"scorer must be a function from texts to labels, got {scorer!r}")
        words = list(map(_composed, as_words("words", words)))
        if not words:
            raise ValueError("give one or more words to mask")
        # Capitals of ß are two letters, which no option of a pattern knows.
        forms = {change(word) for word in words for change in (str, str.upper, str.casefold)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        either = "|".join(r"\s+".join(map(re.escape, form.split())) for form in longest_first)
        self.scorer = scorer
        self._pattern = re.compile(
            rf"(?<![^\W_])(?<![{marks()}])(?:{either})(?![^\W_]|[{marks()}])", re.IGNORECASE
        )

    def masked(self, text: str) -> str:
        """The text as the scorer reads it."""
        return self._pattern.sub("XYZ", _composed(text))

    def __call__(self, texts: Sequence[str]) -> list[str]:
        read = [self.masked(text) for text in as_list(texts)]
        once = list(
            dict.fromkeys(read)
        )  # in batches of other texts, rounding might tip a close decision
        label = dict(zip(once, judged(self.scorer, once) if once else [], strict=True))
        return [label[text] for text in read]


def judged(scorer: Callable[[list[str]], Any], texts: list[str]) -> list[Any]:
    """What a scorer says of each text; TypeError or ValueError if that is no list of as many answers."""
    answers = scorer(texts)
    if isinstance(answers, str | Mapping) or not isinstance(answers, Iterable):
        raise TypeError(
            f"the scorer must give a list, of one answer for each text; it gave {answers!r}"
        )
    answers = list(answers)
    if len(answers) != len(texts):
        raise ValueError(f"the scorer gave {len(answers)} scores for {len(texts)} texts")
    return answers


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def regard_shares(labels: Iterable[str]) -> dict[str, float]:
    """The shares of negative, neutral and positive among labels; they sum to 1.

    Texts labelled "other" are left out: the classifier does not say how they speak of the group.

    Raises
    ------
    ValueError
        A label is not in :data:`LABELS`, or all are "other".
    """
    counts = Counter(as_list(labels))
    unknown = [label for label in counts if label not in LABELS]
    if unknown:
        raise ValueError(f"labels must be among {', '.join(LABELS)}; got {unknown[0]!r}")
    total = sum(counts[label] for label in LABELS[:3])
    if not total:
        raise ValueError(
            f"no text is labelled negative, neutral or positive ({counts['other']} are other)"
        )
    return {label: counts[label] / total for label in LABELS[:3]}


def _translated(theirs: Mapping[int, str], meaning: Mapping[str, str], name: str) -> dict[int, str]:
    """A classifier's label of each class id, as one of :data:`LABELS`."""
    labels = {i: meaning.get(label, label.strip().lower()) for i, label in theirs.items()}
    unknown = [theirs[i] for i, label in labels.items() if label not in LABELS]
    if unknown:
        raise ValueError(
            f"the classifier {name!r} has the labels {', '.join(theirs.values())}; "
            f"{', '.join(unknown)} is none of {', '.join(LABELS)}. Say what each means: "
            f'labels={{"{unknown[0]}": "negative", ...}}'
        )
    return labels
