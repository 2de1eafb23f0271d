"""EquiLM's generate() beside the pretrained model's, |G| = 2, with random weights or a model's own.

python tests/benchmarks/bench_lm.py [--size gpt2] [--sequences 100] [--tokens 15] [--repeats 3] [--threads 2]

--size: gpt2 (124 million weights, 50,257 tokens), gemma (Gemma 3's 270 million, 262,144 tokens), small, or
a folder with a causal language model.

Printed are ratios of times within one run, median and spread: against plain ``generate()`` on as many
sequences as there are views, and against a loop over single sentences and group elements that reads
the whole text again for each token.
"""

import subprocess
import sys
import time
from pathlib import Path

import report
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, PreTrainedModel

from equitutor.language.lm import EquiLM

SIZES = {
    "gpt2": GPT2Config(),
    "gemma": Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
    ),
    "small": GPT2Config(n_layer=4, n_head=4, n_embd=256, vocab_size=8000),
}

#: What is to be reached at the size of Gemma: moving contexts, fixed contexts, memory.
TARGETS = {"gemma": ("<= 0.65", "<= 1.05", "", "<= 1.0")}


class Words:
    """The part of a tokenizer that the lists need: every word a token."""

    unk_token_id = 0

    def __init__(self, words, size):
        self.ids, self.size = {w: i for i, w in enumerate(words, 1)}, size

    def __len__(self):
        return self.size

    def encode(self, text, add_special_tokens=False):
        return [self.ids.get(text, 0)]

    def tokenize(self, text):
        return [text]


def models(size: str) -> tuple[PreTrainedModel, EquiLM]:
    torch.manual_seed(0)
    if size in SIZES:
        plain = AutoModelForCausalLM.from_config(SIZES[size]).eval()
    else:
        plain = AutoModelForCausalLM.from_pretrained(size).eval()
    words = Words([" man", " woman", " he", " she"], plain.config.vocab_size)
    return plain, EquiLM(plain, words, [["man", "woman"], ["he", "she"]])


def contexts(count: int, moved: bool) -> torch.Tensor:
    """ "The man worked as a", or the same without a word that is moved."""
    row = [900, 1 if moved else 901, 902, 903, 904]
    return torch.tensor([row]).repeat(count, 1)


def speak(model, ids, tokens: int) -> float:
    """Seconds."""
    torch.manual_seed(0)
    start = time.perf_counter()
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=40,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        pad_token_id=0,
    )
    return time.perf_counter() - start


@torch.no_grad()
def loop(lm: EquiLM, ids, tokens: int) -> float:
    """One sentence, one group element, one token at a time, nothing kept. Seconds."""
    start = time.perf_counter()
    for text in ids.split(1):
        for _ in range(tokens):
            views = [lm.model(input_ids=p[text]).logits[:, -1][:, p] for p in lm.perms]
            scores = sum(views) / len(views)
            best = scores.topk(40)
            drawn = torch.multinomial(best.values.softmax(-1), 1)
            text = torch.cat([text, best.indices.gather(1, drawn)], 1)
    return time.perf_counter() - start


def ratios(repeats: int, one, other) -> list[float]:
    """Of two times, taken in turn."""
    return [one() / other() for _ in range(repeats)]


def memory(args, what: str) -> float:
    """Peak memory in MB of a process of its own."""
    code = (
        "import resource, sys; sys.path.insert(0, {folder!r}); import bench_lm as b, torch;"
        "torch.set_num_threads({threads}); plain, lm = b.models({size!r});"
        "b.speak({what}, {tokens});"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    ).format(folder=sys.path[0], what=what, **vars(args))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = report.parser(__doc__, repeats=3, threads=2)
    parser.add_argument("--size", default="gpt2")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plain, lm = models(args.size)
    n, tokens = args.sequences, args.tokens
    moved, fixed, both = contexts(n, True), contexts(n, False), contexts(2 * n, True)
    speak(lm, moved[:4], 4)
    told = report.Report("lm" if args.size == "gpt2" else f"lm-{Path(args.size).name}", args)

    def times(model, ids):
        return lambda: speak(model, ids, tokens)

    few = max(1, n // 50)
    slow = lambda: loop(lm, moved[:few], tokens) * n / few  # noqa: E731
    size = f"{Path(args.size).name}, |G| = 2, {n} x {tokens} tokens"
    targets = iter(TARGETS.get(args.size, [""] * 4))
    for what, one, other in (
        ("contexts that move / plain on twice as many", times(lm, moved), times(plain, both)),
        ("contexts that do not / plain on as many", times(lm, fixed), times(plain, fixed)),
        ("loop without a cache / generate()", slow, times(lm, moved)),
    ):
        told.row(f"{size}: {what}", ratios(args.repeats, one, other), next(targets))
    views = memory(args, f"lm, b.contexts({n}, True)")
    alone = memory(args, f"plain, b.contexts({2 * n}, True)")
    told.row(
        f"{size}: memory of the process / plain on twice as many", [views / alone], next(targets)
    )
    told.done()


if __name__ == "__main__":
    main()
