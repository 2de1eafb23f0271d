"""A small CLIP that is trained here on images and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm

from ..environment import generator
from ..text import printable
from .catalogue import IMAGENET
from .imageset import ImageSet
from .training import shifted, to_input

__all__ = ["CAPTIONS", "STATISTICS", "contrastive_loss", "small_clip", "train_clip"]

#: Captions of the training images; the class takes the place of "{}".
CAPTIONS = ("a photo of a {}", "a picture of a {}", "an image of the {}")

#: Mean and standard deviation that the small model's images are normalised by.
STATISTICS = IMAGENET


def small_clip(
    vocabulary: int, size: int = 32, patch: int = 8, width: int = 64, layers: int = 3
) -> Any:
    """A randomly initialised CLIPModel of transformers, whose vision transformer has ``layers`` layers."""
    from transformers import CLIPConfig, CLIPModel

    common = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 16,
    }
    text = {
        **common,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "vocab_size": vocabulary,
        "num_hidden_layers": 1,
        "max_position_embeddings": 16,
    }
    vision = {**common, "num_hidden_layers": layers, "image_size": size, "patch_size": patch}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=width))


def contrastive_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """CLIP's loss, (), of the scores (B, B) of B images by their B captions, whose labels are (B,).

    A caption fits all images of its class, which share the target.
    """
    same = (labels[:, None] == labels).float()
    target = same / same.sum(1)
    return (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2


def train_clip(
    clip: nn.Module,
    tokenizer: Any,
    train: ImageSet,
    classes: Sequence[str],
    size: int,
    steps: int,
    lr: float,
    seed: int,
    device: torch.device | str = "cpu",
    title: str = "",
) -> None:
    """Train by :func:`contrastive_loss` on shifted upright images, each with a caption, 64 at a time."""
    captions = [caption.format(name) for caption in CAPTIONS for name in classes]
    texts = tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]
    texts = texts.unflatten(0, (len(CAPTIONS), len(classes)))  # (captions, classes, T)
    order = generator(seed)
    optimizer = torch.optim.AdamW(clip.parameters(), lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    clip.train()
    for _ in tqdm(range(steps), desc=printable(title), unit="step", delay=2, leave=False):
        rows = torch.randint(len(train), (64,), generator=order)
        x, labels = to_input(train.images[rows], size, device), train.labels[rows].to(device)
        x = shifted(x, size // 16, order)
        drawn = torch.randint(len(CAPTIONS), (len(rows),), generator=order)
        ids = texts[drawn, train.labels[rows]].to(device)  # (B, T)
        text = clip.get_text_features(ids, (ids != 1).long()).pooler_output  # (B, C)
        image = clip.get_image_features(x).pooler_output  # (B, C)
        scores = clip.logit_scale.exp() * normalize(image, dim=-1) @ normalize(text, dim=-1).T
        loss = contrastive_loss(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    clip.eval()
