"""A small CLIP that is trained here on images and captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize
from tqdm import tqdm

from . import data
from .training import MEAN, STD, to_input

#: Captions of the training images; the class stands at "{}".
CAPTIONS = ("a photo of a {}", "a picture of a {}", "an image of the {}")


def small_clip(
    vocabulary: int, size: int = 32, patch: int = 8, width: int = 64, layers: int = 3
) -> Any:
    """A CLIPModel of transformers with a vision transformer of some layers, randomly initialised."""
    from transformers import CLIPConfig, CLIPModel

    common = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 16,
    }
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={
            **common,
            **ids,
            "vocab_size": vocabulary,
            "num_hidden_layers": 1,
            "max_position_embeddings": 16,
        },
        vision_config={
            **common,
            "num_hidden_layers": layers,
            "image_size": size,
            "patch_size": patch,
        },
        projection_dim=width,
    )
    return CLIPModel(config)


def train_clip(
    clip: nn.Module,
    tokenizer: Any,
    train: data.ImageSet,
    classes: Sequence[str],
    size: int,
    steps: int,
    lr: float,
    seed: int,
    device: torch.device | str = "cpu",
    title: str = "",
) -> None:
    """Train by the contrastive loss of CLIP on shifted upright images, each with a caption.

    In a batch of 64 a caption fits all images of its class: they share the target.
    """
    prompts = [
        tokenizer([caption.format(c) for c in classes], padding=True, return_tensors="pt")
        for caption in CAPTIONS
    ]
    width = max(p["input_ids"].shape[1] for p in prompts)
    texts = torch.stack(
        [
            nn.functional.pad(p["input_ids"], (0, width - p["input_ids"].shape[1]), value=1)
            for p in prompts
        ]
    )  # (captions, classes, T)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(clip.parameters(), lr, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    clip.train()
    for _ in tqdm(range(steps), desc=title, unit="step", delay=2, leave=False):
        rows = torch.randint(len(train), (64,), generator=order)
        x, labels = to_input(train.images[rows], size, device), train.labels[rows].to(device)
        pad = size // 16
        top, left = torch.randint(0, 2 * pad + 1, (2,), generator=order).tolist()
        x = nn.functional.pad(x, [pad] * 4)[..., top : top + size, left : left + size]
        drawn = torch.randint(len(CAPTIONS), (len(rows),), generator=order)
        ids = texts[drawn, train.labels[rows]].to(device)
        read = clip.get_text_features(ids, (ids != 1).long()).pooler_output
        seen = clip.get_image_features(x).pooler_output
        like = clip.logit_scale.exp() * normalize(seen, dim=-1) @ normalize(read, dim=-1).T
        same = (labels[:, None] == labels).float()
        target = same / same.sum(1)
        loss = nn.functional.cross_entropy(like, target)
        loss = (loss + nn.functional.cross_entropy(like.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    clip.eval()


#: What the small model's images are normalised by: those of the image experiments.
STATISTICS = (MEAN, STD)
