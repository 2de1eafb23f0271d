"""The checkpoint "lit" of the CLIP experiment: two pretrained towers, and the projection trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..groups import FiniteGroup
from ..images import backbones, lit
from ..images.backbones import backbone
from ..images.data import CIFAR10_CLASSES, LOADERS
from ..images.lit import LockedTower, TwoTowers
from ..images.training import fingerprint, limit
from ..images.views import ViewSet, on_views
from ..images.zeroshot import TEMPLATES
from ..language import sentences
from ..language.sentences import READER, KnownTexts, SentenceEncoder
from ..rotations import Flip
from ..store import checkpoints
from .config import shown

if TYPE_CHECKING:
    from .clip import Config

__all__ = ["KEYS", "WORDS", "projection", "towers_on_views", "two_towers"]

#: The settings that the projection depends on.
KEYS = ("backbone", "size", "pool_limit", "train_limit", "projection_epochs", "projection_lr")

#: The classes of CIFAR-10, of which the projection of the book was trained; then words that it never met.
WORDS = (
    *CIFAR10_CLASSES,
    *("kitten", "puppy", "car", "plane", "boat", "lorry", "pony", "toad", "stag"),
    *("animal", "vehicle", "astronaut", "building", "coin", "cup of coffee", "flower"),
    *("motorcycle", "person", "rocket"),
)
_PROMPTS = (*TEMPLATES, "a drawing of a {}.", "{}")


def two_towers(
    classes: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    folder: str | Path = "",
    reader: str | Path = READER,
) -> TwoTowers:
    """The book's two towers: Lite0 sees, all-MiniLM-L6-v2 reads, joined by the projection of seed 0.

    The projection comes with the package, and so do the features of the prompts of :data:`WORDS`: for these
    nothing is downloaded. For any other text the sentence encoder is loaded.

    Parameters
    ----------
    classes, templates
        See :func:`equitutor.images.zeroshot.class_features`.
    folder : str or Path
        Where CIFAR-10 lies already, in case the projection has to be trained again.
    reader : str or Path
        The sentence encoder by its name on the hub, or a folder.

    Returns
    -------
    TwoTowers
        In evaluation mode. Pictures are best at 160 pixels, as in its training.

    Raises
    ------
    DataError
        If a text is new and the sentence encoder cannot be loaded; the message says what to do.
    """
    from .clip import LIT, Config, class_names, views

    config = replace(Config.lit(), folder=str(folder), reader=str(reader))
    recipe = {key: getattr(config, key) for key in KEYS}
    recipe |= {"data": config.dataset, "seed": config.seeds[0], "reader": READER}
    recipe |= {"words": WORDS, "prompts": _PROMPTS}

    def make() -> dict[str, Tensor]:
        seen, group = views(config, "flip"), Flip("vertical").group
        names = class_names(config, seen["train"])
        joined = projection(config, seen["train"], names, group, config.seeds[0])
        texts = [prompt.format(word) for prompt in _PROMPTS for word in WORDS]
        features = SentenceEncoder.from_pretrained(reader)(texts)
        return joined.state_dict() | dict(zip(texts, features, strict=True))

    state = checkpoints.kept(LIT, recipe, make)
    joined = linear({name: state.pop(name) for name in ("weight", "bias")})
    tower = LockedTower(backbone(config.backbone, config.weights))
    return TwoTowers(tower, joined, KnownTexts(state, reader), classes, templates).eval()


def projection(
    config: Config, pool: ViewSet, names: Sequence[str], group: FiniteGroup, seed: int
) -> nn.Linear:
    """The projection, trained on upright pictures out of the pool; kept in the cache folder."""
    templates = config.templates or TEMPLATES
    recipe = {key: getattr(config, key) for key in KEYS}
    recipe |= {"data": shown(config.dataset, LOADERS), "seed": seed}
    recipe |= {"classes": names, "templates": templates} | made_from(config)

    def make() -> dict[str, Tensor]:
        train = limit(pool, config.train_limit, seed)
        upright = train.images[:, group.identity.index, : train.channels]
        read = SentenceEncoder.from_pretrained(config.reader)
        how = (config.projection_epochs, config.projection_lr, seed)
        made = lit.train_projection(upright, train.labels, read, names, templates, *how)
        return made.state_dict()

    return linear(checkpoints.kept(f"lit-{recipe['data']}-{seed}", recipe, make))


@lru_cache(maxsize=1)  # they take seconds, and cells share them
def made_from(config: Config) -> dict[str, str]:
    """Fingerprints of what the projection is made from."""
    return {
        "images": fingerprint(config.dataset, config.folder),
        "weights": backbones.fingerprint(config.backbone, config.weights),
        "text": sentences.fingerprint(config.reader),
    }


def linear(state: Mapping[str, Tensor]) -> nn.Linear:
    """A linear layer of this state_dict."""
    made = nn.Linear(*reversed(state["weight"].shape))
    made.load_state_dict(dict(state))
    return made


def towers_on_views(
    config: Config, sets: Mapping[str, ViewSet], names: Sequence[str], group: FiniteGroup, seed: int
) -> TwoTowers:
    """The two towers as a classifier of pictures whose views under this group were computed."""
    joined = projection(config, sets["train"], names, group, seed)
    body = on_views(sets["test"], nn.Identity(), group)
    read = SentenceEncoder.from_pretrained(config.reader)
    return TwoTowers(body, joined, read, names, config.templates or TEMPLATES)
