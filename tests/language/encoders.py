"""A tiny sentence encoder of random weights."""

import torch
from transformers import BertConfig, BertModel

from equitutor.experiments.clip import caption_tokenizer


def tiny_reader(seed=0, words=("cat", "dog", "red fish")):
    tokenizer = caption_tokenizer(words)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "max_position_embeddings": 16}
    torch.manual_seed(seed)
    return BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)), tokenizer
