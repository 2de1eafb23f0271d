"""What tables call the fields and values that records and commands name as code does."""

from __future__ import annotations

__all__ = ["field", "value"]

_FIELDS = {
    "axis": "groups",
    "backbone": "network",
    "checkpoint": "model",
    "dataset": "data",
    "place": "average of",
}
_VALUES = {
    "augmentation": {"none": "not augmented", "c4": "augmented"},
    "backbone": {
        "alexnet": "AlexNet",
        "densenet121": "DenseNet-121",
        "efficientnet_lite0": "EfficientNet-Lite0",
        "resnet18": "ResNet-18",
        "squeezenet1_1": "SqueezeNet 1.1",
        "vgg11_bn": "VGG-11 (batch norm)",
    },
    "checkpoint": {"lit": "two towers", "small": "small CLIP"},
    "dataset": {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "hymenoptera": "Hymenoptera"},
    "head": {"own": "its own classes", "own 1000": "all its 1,000 classes"},
    "judge": {"sentences": "sentence encoder", "vader": "VADER's lexicon"},
    "method": {
        "none": "plain",
        "equizero-max": "equizero, largest score",
        "equizero-top": "equizero, top probability",
        "lambda": "λ-equitune",
        "attention": "equiattention",
        "canonical": "canonical, learned",
        "template": "canonical, fixed",
        "frame": "frame average",
    },
    "model": {
        "GPT2": "GPT-2",
        "EquiGPT2": "EquiGPT-2",
        **{f"Zero{cell}": f"equizero {cell}" for cell in ("RNN", "GRU", "LSTM")},
        **{f"Lambda{cell}": f"λ-equitune {cell}" for cell in ("RNN", "GRU", "LSTM")},
    },
    "pretrained": {
        "gemma-3-270m-q4_k_m.gguf": "Gemma 3 270M (4 bits)",
        "gpt2": "GPT-2",
        "planted": "the model of a planted bias",
    },
    "task": {
        "add_jump": "add jump",
        "around_right": "around right",
        "jump_around_right": "jump around right",
        "turn_left": "turn left",
    },
    "weights": {"imagenet": "ImageNet", "squeezenet1_1.safetensors": "ImageNet (from a file)"},
    "world": {
        "Acrobot-v1": "Acrobot",
        "CartPole-v1": "CartPole",
        "grid": "gridworld",
        "grid d4": "grid, D4",
    },
}


def field(name: str) -> str:
    """The heading of a field of records' cells, such as "network" of ``backbone``."""
    return _FIELDS.get(name, name)


def value(name: str, text: str) -> str:
    """What a field's value is called; names that nobody knows stay as they are."""
    known = _VALUES.get(name, {})
    first, *rest = text.split(", ")  # "resnet18, frozen"
    return ", ".join([known.get(first, first), *rest])
