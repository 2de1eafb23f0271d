"""What a word is to each kind of tokenizer: all its tokens move, its pieces in other words are counted."""

import base64
import json
import os
import re
from functools import cache, partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    PreTrainedTokenizerFast,
)

from equitutor.language.coverage import Coverage, coverage
from equitutor.language.equality import Equality, equality, one_token_spellings
from equitutor.language.lm import EquiLM
from equitutor.language.spellings import BASIC, Key, Vocabulary
from equitutor.language.tokenizer import word_tokenizer
from equitutor.language.word_record import check_record

pytestmark = pytest.mark.filterwarnings("ignore:.*more than one token:UserWarning")

GENDER, COLOUR = [["man", "woman"], ["he", "she"]], [["red", "blue", "green"]]
LISTS = {
    "C2": {"": GENDER},
    "C3": {"": COLOUR},
    "C2 x C3": {"gender": GENDER, "colour": COLOUR},
}
#: Texts with the words to be replaced in braces, in the spellings that every large tokenizer has.
PLAIN = [
    "the {man} was {red} and {he} left",
    "{He} left",
    "{he} left",
    "{Red} or not",
    "The {Man} left , {he} did",
]
AROUND = [
    "the {man} left.\n{He} came",
    'and "{He} came"',
    "or ({she} came)",
    "came:\n\n{Red} ({red}) [{Green}]",
    "{he}, {she}. {He}! {She}?",
]
JOINED = ["wo-{man} , {red}", "'{Man}'"]
CAPITALS = ["THE {MAN} LEFT", "{MAN} AND {WOMAN}", "({HE}) and\n{SHE}", "A {RED} ONE, {BLUE}"]
SPACED = [re.sub(r"\s*([^\w\s{}]|\n)\s*", r" \1 ", text) for text in PLAIN]

# -- tokenizers -------------------------------------------------------------------------------------

EVERY = [w for lists in (GENDER, COLOUR) for words in lists for w in words]
FORMS = [f for w in EVERY for f in (w, w.capitalize(), w.upper())]
GPT2 = r"'s| ?\p{L}+| ?[^\s\p{L}]+|\s+(?!\S)|\s+"
CL100K = r"'s|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"


def fast(core, **options):
    return PreTrainedTokenizerFast(tokenizer_object=core, **options)


def letters(text):
    """Bytes as GPT-2 writes them, by the library that we do not test here."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[
        0
    ][0]


def bytewise(tokens, split, **options):
    """A byte-level tokenizer of these tokens; what is none of them falls into bytes."""
    known = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map(letters, tokens)]
    ids = {token: i for i, token in enumerate(dict.fromkeys(known))}
    core = Tokenizer(models.BPE(ids, [], ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return fast(core, **options)


def gpt2_like():
    return bytewise([f"{b}{w}" for b in ("", " ") for w in FORMS], GPT2)


def tiktoken_like():
    """Where one character before the letters may be part of the token."""
    return bytewise([f"{b}{w}" for b in ("", *" (\"-[_“.'") for w in FORMS], CL100K)


def metaspace(model):
    core = Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first")
    return fast(core, unk_token="<unk>")


def unigram():
    """Pieces of SentencePiece's kind: words with ▁ and without, and single characters."""
    signs = sorted(
        {*"▁\n.,:;!?()[]\"'-_“", *"".join(FORMS), *"abcdefghijklmnopqrstuvwxyzTHELFTANDO"}
    )
    words = [f"{b}{w}" for b in ("", "▁") for w in [*FORMS, "the", "The", "THE"]]
    pieces = [("<unk>", 0.0), *((w, -2.0) for w in words), *((s, -6.0) for s in signs)]
    return metaspace(models.Unigram(pieces, unk_id=0))


def wordpiece(lower=False):
    forms = dict.fromkeys(f.lower() if lower else f for f in FORMS)
    rest = ["left", "came", "and", "or", "the", "was", "a", "one", "did", "not", "or"]
    rest += [*map(str.capitalize, rest), *map(str.upper, rest), *".,:;!?()[]\"'-_", "wo", "snow"]
    tokens = ["[UNK]", *dict.fromkeys([*forms, *rest]), *(f"##{f}" for f in forms)]
    core = Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=lower)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return fast(core, unk_token="[UNK]")


def suffix():
    """Ends of words are marked: man</w> is the word, man a piece of manly."""
    core = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        special_tokens=["<unk>"], end_of_word_suffix="</w>", vocab_size=2000, show_progress=False
    )
    said = " ".join([*FORMS, *(f"{w}ly {w}hood" for w in EVERY)])
    core.train_from_iterator([said, *PLAIN, *AROUND, *CAPITALS] * 9, trainer)
    return fast(core, unk_token="<unk>")


def whole_words():
    rest = [
        "the",
        "was",
        "and",
        "left",
        "came",
        "or",
        "not",
        "did",
        "The",
        ",",
        ".",
        ":",
        '"',
        "(",
        ")",
        "'",
        "!",
        "?",
    ]
    return word_tokenizer([*FORMS, *rest])


def gpt2():
    if "EQUITUTOR_TEST_DATA" not in os.environ:
        pytest.skip("real data not set")
    return GPT2TokenizerFast.from_pretrained(
        Path(os.environ["EQUITUTOR_TEST_DATA"], "gpt2-tokenizer")
    )


def mistral_file(name):
    return Path(pytest.importorskip("mistral_common").__file__).parent / "data" / name


def merges(ids, scores=None):
    from transformers.convert_slow_tokenizer import generate_merges

    return generate_merges(ids, scores)


def mistral():
    """SentencePiece's BPE, of Mistral 7B."""
    pytest.importorskip("google.protobuf")
    from transformers.utils import sentencepiece_model_pb2_new as proto

    model = proto.ModelProto()
    model.ParseFromString(mistral_file("tokenizer.model.v1").read_bytes())
    ids = {p.piece: i for i, p in enumerate(model.pieces)}
    pairs = merges(ids, {p.piece: p.score for p in model.pieces if p.type == 1})
    core = models.BPE(ids, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    return metaspace(core)


def tekken():
    """Mistral's newer one, of tiktoken's kind."""
    read = json.loads(mistral_file("tekken_240718.json").read_text(encoding="utf-8"))
    alphabet = dict(enumerate(bytes_as_letters()))
    ids = {
        "".join(alphabet[byte] for byte in base64.b64decode(token["token_bytes"])): token["rank"]
        for token in read["vocab"][:130072]
    }
    core = Tokenizer(models.BPE(ids, merges(ids), ignore_merges=True))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(read["config"]["pattern"]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    return fast(core)


def bytes_as_letters():
    """The letter of each byte: those that a text can hold by themselves, the rest in order from 256."""
    alone = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b) if b in alone else chr(next(rest)) for b in range(256)]


def gemma():
    if "EQUITUTOR_TEST_MODELS" not in os.environ:
        pytest.skip("real models not set")
    file = "gemma-3-270m-q4_k_m.gguf"
    return AutoTokenizer.from_pretrained(os.environ["EQUITUTOR_TEST_MODELS"], gguf_file=file)


#: For each tokenizer the texts that it splits so that all listed words are one token.
KINDS = {
    gpt2_like: PLAIN + AROUND + JOINED + CAPITALS,
    tiktoken_like: [*PLAIN, *AROUND, *JOINED, *CAPITALS, "“{He}” _{he}_ x.{man}"],
    unigram: PLAIN + AROUND + JOINED + CAPITALS,
    wordpiece: PLAIN + AROUND + JOINED + CAPITALS,
    partial(wordpiece, lower=True): PLAIN + AROUND + JOINED + CAPITALS,
    suffix: PLAIN + AROUND + JOINED + CAPITALS,
    whole_words: SPACED,
    gpt2: [*PLAIN, *AROUND, *JOINED, "IT IS {HE}"],
    mistral: [*PLAIN, *AROUND, JOINED[0]],
    tekken: PLAIN + AROUND,
    gemma: [*PLAIN, *AROUND, *JOINED, "IT IS {HE}", "{HE} and\n({SHE})", "A {RED} ONE, {BLUE}"],
}
NAMES = [getattr(kind, "__name__", "wordpiece_lower") for kind in KINDS]


@cache
def tokenizer_of(kind):
    return kind()


@pytest.fixture(params=KINDS, ids=NAMES, scope="module")
def kind(request):
    """A tokenizer and its texts."""
    return tokenizer_of(request.param), KINDS[request.param]


def moved_by_hand(template, lists, steps):
    """The text in which a person has put each word in braces a number of steps on, axis by axis."""

    def replace(match):
        for axis, step in zip(lists.values(), steps, strict=True):
            for words in axis:
                if match[1].lower() in words:
                    word = words[(words.index(match[1].lower()) + step) % len(words)]
                    return (
                        match[1].istitle() * word.title()
                        or match[1].isupper() * word.upper()
                        or word
                    )
        return match[1]

    return re.sub(r"\{(\w+)\}", replace, template)


def elements(lists):
    """(steps of each axis) for each group element, in the order of the rows of perms."""
    return list(product(*(range(len(axis[0])) for axis in lists.values())))


def unlike(tokenizer, words, lists, templates):
    """The texts whose tokens, moved, are not the tokens of the text that a person moved."""
    found = []
    for template in templates:
        here = torch.tensor(tokenizer.encode(moved_by_hand(template, lists, [0] * len(lists))))
        for perm, steps in zip(words.perms, elements(lists), strict=True):
            there = moved_by_hand(template, lists, steps)
            if perm[here].tolist() != tokenizer.encode(there):
                found.append(there)
    return found


def lm_of(tokenizer, lists, **options):
    torch.manual_seed(0)
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    config = GPT2Config(**sizes, vocab_size=len(tokenizer), eos_token_id=None, bos_token_id=None)
    return EquiLM(GPT2LMHeadModel(config).eval(), tokenizer, lists, **options).eval()


# -- every spelling moves ---------------------------------------------------------------------------


@pytest.mark.parametrize("lists", LISTS)
def test_the_tokens_of_a_text_move_as_a_person_moves_its_words(kind, lists):
    tokenizer, templates = kind
    lists = LISTS[lists]
    assert not unlike(tokenizer, equality(tokenizer, lists), lists, templates)


@pytest.mark.parametrize("lists", LISTS)
@torch.no_grad()
def test_the_law_whatever_stands_around_a_word(kind, lists):
    """P(g v | g x) = P(v | x), with g x as a person writes it."""
    tokenizer, templates = kind
    lists = LISTS[lists]
    lm = lm_of(tokenizer, lists)
    for template in templates:
        texts = [moved_by_hand(template, lists, steps) for steps in elements(lists)]
        ids = torch.tensor([tokenizer.encode(text) for text in texts])
        found = lm(input_ids=ids, use_cache=False).logits[:, -1].softmax(-1)
        for perm, row in zip(lm.perms, found, strict=True):
            assert (row[perm] - found[0]).abs().max() <= 1e-6, template


def test_what_moves_reads_as_the_listed_word(kind):
    """The tokenizer's own decoder, which plays no part in finding the tokens."""
    tokenizer, _ = kind
    words = equality(tokenizer, LISTS["C2 x C3"])
    count = 0
    for axis in words.lists.values():
        for listed, cycles in axis:
            for spelled, ids in cycles:
                for word, text, token in zip(listed, spelled, ids, strict=True):
                    shown = tokenizer.decode([token]).strip().casefold()
                    assert shown == text.strip().casefold() and word in shown
                    count += 1
    assert count == int(words.moved.sum()) >= 2 * len(EVERY) - 7
    assert words.moved[tokenizer.all_special_ids].sum() == 0


def test_a_tokenizer_that_shows_no_vocabulary_misses_a_word_after_a_newline():
    """So the tests above notice a spelling that is not moved."""
    whole = tokenizer_of(unigram)
    blind = SimpleNamespace(
        encode=whole.encode, tokenize=whole.tokenize, unk_token_id=whole.unk_token_id
    )
    words = equality(blind, LISTS["C2"], size=len(whole))
    assert [c for c in words.cycles if "he" in c[0]] == [(" he", " she")]
    missed = unlike(whole, words, LISTS["C2"], PLAIN + AROUND)
    assert "the woman left.\nShe came" in missed and "the woman was red and she left" not in missed


def test_the_spellings_of_each_kind():
    """The basic ones first; what stands around a word is part of its spelling."""
    he = partial(one_token_spellings, word="he")
    basic = [" he", "he", " He", "He", " HE", "HE"]
    assert list(he(tokenizer_of(gpt2_like))) == basic == [key.of("he") for key in BASIC]
    assert list(he(tokenizer_of(unigram))) == basic
    assert list(he(tokenizer_of(wordpiece))) == [" he", " He", " HE"]
    assert list(he(tokenizer_of(partial(wordpiece, lower=True)))) == [" he"]
    assert list(he(tokenizer_of(suffix))) == [" he", " He", " HE"]
    found = list(he(tokenizer_of(tiktoken_like)))
    assert found[:6] == basic and {"(he", '"He', "-HE", "_he", ".he", "“HE"} < set(found[6:])


def test_pieces_of_words_are_no_words():
    tokenizer = tokenizer_of(suffix)
    ids = tokenizer.get_vocab()
    words = equality(tokenizer, GENDER)
    assert "man" in ids and "man</w>" in ids  # from manly, manhood
    assert words.moved[ids["man</w>"]] and not words.moved[ids["man"]]
    ids = tokenizer_of(wordpiece).get_vocab()
    words = equality(tokenizer_of(wordpiece), GENDER)
    assert words.moved[ids["man"]] and not words.moved[ids["##man"]]


def slow(tokens, **options):
    """A tokenizer without parts that could be asked: its tokens alone tell how it writes."""
    ids = {token: i for i, token in enumerate(tokens)}
    shown = {
        token.decode(errors="replace") if isinstance(token, bytes) else token: i
        for token, i in ids.items()
    }
    return SimpleNamespace(
        get_vocab=lambda: ids,
        encode=lambda text, add_special_tokens: [shown[text]] if text in shown else [0, 0],
        tokenize=str.split,
        **options,
    )


@pytest.mark.parametrize(
    ("tokens", "options", "moved"),
    [
        (["<unk>", "▁he", "▁she", "he", "she"], {}, [1, 2, 3, 4]),
        (["<unk>", "he", "she", "##he", "##she"], {}, [1, 2]),
        (["<unk>", "he", "she", "he@@", "she@@"], {}, [1, 2]),
        (["<unk>", "he</w>", "she</w>", "he", "she"], {}, [1, 2]),
        (["<unk>", "Ġhe", "Ġshe", "(he", "(she"], {"byte_decoder": {}}, [1, 2, 3, 4]),
        ([b"\xff", b" he", b" she", b"\nhe", b"\nshe", b"\xffhe"], {}, [1, 2, 3, 4]),
        (["<unk>", "he", "she", "<he>", "<she>"], {"all_special_ids": [3, 4]}, [1, 2]),
    ],
)
def test_tokenizers_without_a_fast_core(tokens, options, moved):
    words = equality(slow(tokens, **options), [["he", "she"]], size=len(tokens))
    assert words.moved.nonzero()[:, 0].tolist() == moved
    assert words.perms[1][moved].tolist() == [i + (1 if i % 2 else -1) for i in moved]


def test_words_with_other_letters():
    """Written in two bytes, with a mark, or with a sign at the end."""
    words = ["él", "он", "она", "C++", "C", "señora"]
    tokenizer = bytewise([*words, *(f" {w}" for w in words), "“él", "“он", " онa", "C+"], GPT2)
    moved = equality(tokenizer, [["él", "он"], ["C++", "C"]]).cycles
    assert moved == [(" él", " он"), ("él", "он"), ("“él", "“он"), (" C++", " C"), ("C++", "C")]
    # A mark joins the letter before it: the word and the mark are another word.
    core = SimpleNamespace(
        get_vocab=lambda: {"पुरुष": 1, "पुरुषो": 2, "he\u200d": 3, "he": 4},
        encode=lambda text, add_special_tokens: [0, 0],
    )
    found = Vocabulary(core).spellings(["पुरुष", "he"])
    assert found == {"पुरुष": {Key("", 0, ""): 1, **found["पुरुष"]}, "he": {Key("", 0, ""): 4}}
    assert set(found["पुरुष"].values()) == {1}


def test_a_vocabulary_with_real_letters_that_bytes_could_stand_for():
    """SentencePiece's tokens are letters, not bytes: Ġhe is a word of its own there."""
    pieces = [("<unk>", 0.0), ("▁he", -1.0), ("▁she", -1.0), ("Ġhe", -1.0), ("Ġshe", -1.0)]
    words = equality(metaspace(models.Unigram(pieces, unk_id=0)), [["he", "she"]])
    assert words.cycles == [(" he", " she")] and words.moved.sum() == 2


def test_added_tokens_are_read_as_they_are_and_special_ones_stay():
    tokenizer = gpt2_like()
    tokenizer.add_tokens([" ze", "«he", "«she"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<he>", "<she>", " xe"]})
    words = equality(tokenizer, [["he", "she"]])
    assert ("«he", "«she") in words.cycles and not words.moved[tokenizer.all_special_ids].any()
    assert (" ze", " he") in equality(tokenizer, [["ze", "he"]]).cycles
    with pytest.raises(ValueError, match="'xe': no spelling as one token"):
        equality(tokenizer, [["xe", "he"]])


def test_what_is_unknown_is_no_token():
    """Nor where only the tokenizer's core knows which token stands for the unknown."""
    core = Tokenizer(models.WordLevel({"<unk>": 0, "he": 1, "she": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert equality(fast(core), [["he", "she"]]).moved.tolist() == [False, True, True]
    with pytest.raises(ValueError, match="'ze': no spelling as one token"):
        equality(fast(core), [["he", "ze"]])


def test_the_planted_words_move_as_ever():
    """For a tokenizer of whole words each word has one token, and nothing else moves."""
    words = equality(word_tokenizer(["man", "woman", "he", "she", "king", "x"]), {"a": GENDER})
    assert words.perms.tolist() == [list(range(9)), [0, 1, 2, 4, 3, 6, 5, 7, 8]]
    assert words.cycles == [(" man", " woman"), (" he", " she")]
    assert words.left_out[" Man"] == [" Man", " Woman"] and " man" not in words.left_out


def test_numpy_words_and_tuples():
    tokenizer = tokenizer_of(gpt2_like)
    words = equality(tokenizer, (tuple(np.array(["red", "blue", "green"])),), np.array(["he"]))
    assert torch.equal(words.perms, equality(tokenizer, COLOUR).perms)
    assert type(words.lists[""][0].words[0]) is str and json.dumps(words.record())


@pytest.mark.parametrize(
    "words", [{"red", "blue", "green"}, {"red": 1, "blue": 2}, (w for w in ("red", "blue")), None]
)
def test_what_has_no_order_is_no_list(words):
    """The order says what moves where; that of a set is another in each process."""
    with pytest.raises(
        TypeError, match=r"of the axis 'a' must be a list of words, whose order says"
    ):
        equality(tokenizer_of(gpt2_like), {"a": [words]})


def test_an_array_is_a_list():
    tokenizer = tokenizer_of(gpt2_like)
    found = equality(tokenizer, [np.array(COLOUR[0])])
    assert torch.equal(found.perms, equality(tokenizer, COLOUR).perms)


@pytest.mark.parametrize(
    ("general", "error"),
    [([""], ValueError), (["the", " "], ValueError), ([1], ValueError), (5, TypeError)],
)
def test_general_words_are_words(general, error):
    with pytest.raises(error, match="general"):
        equality(tokenizer_of(gpt2_like), COLOUR, general)


@pytest.mark.parametrize("word", ["", " ", 3])
def test_spellings_of_no_word(word):
    with pytest.raises(ValueError, match="expected words, none of them empty"):
        one_token_spellings(tokenizer_of(gpt2_like), word)


@pytest.mark.parametrize("kind", ["none", "a name", "of the package tokenizers"])
def test_what_is_no_tokenizer_of_transformers(kind):
    given = {"none": None, "a name": "gpt2"}.get(kind, tokenizer_of(gpt2_like).backend_tokenizer)
    for ask in (lambda: equality(given, COLOUR), lambda: one_token_spellings(given, "red")):
        with pytest.raises(TypeError, match="must be one of transformers, got"):
            ask()


def test_coverage_of_lists_that_are_no_group():
    with pytest.raises(TypeError, match="must be an Equality"):
        coverage(COLOUR, tokenizer_of(gpt2_like), ["red"])
    with pytest.raises(TypeError, match="expected a list of strings, got 1"):
        coverage(equality(tokenizer_of(gpt2_like), COLOUR), tokenizer_of(gpt2_like), [1])


# -- what does not move ------------------------------------------------------------------------------


def some_without_partner():
    tokens = [" he", " she", "he", "she", "(he", "[she", " HE", "he'", "she'"]
    return bytewise(tokens, r"\S+|\s+\S+")


def test_spellings_without_a_partner_are_left_out_and_one_warning_says_so():
    tokenizer = some_without_partner()
    with pytest.warns(UserWarning) as said:
        words = equality(tokenizer, [["he", "she"]])
    assert words.cycles == [(" he", " she"), ("he", "she"), ("he'", "she'")]
    capital = {" He": [" He", " She"], "He": ["He", "She"], "HE": ["HE", "SHE"]}
    assert words.left_out == {**capital, " HE": [" SHE"], "(he": ["(she"], "[he": ["[he"]}
    (warning,) = said
    assert "'(she', '[he', ' SHE' are not moved" in str(warning.message)
    assert "more than one token" in str(warning.message)
    assert ".words.left_out" in str(warning.message) and warning.filename == __file__


def test_what_has_no_partner_in_a_real_vocabulary():
    """Of tiktoken's kind: -man is a token of its own there and -woman is none, so neither moves."""
    tokenizer = tokenizer_of(tekken)
    words = equality(tokenizer, GENDER)
    assert words.left_out["-man"] == ["-woman"]
    assert len(tokenizer.encode("-man")) == 1 < len(tokenizer.encode("-woman"))
    assert not words.moved[tokenizer.encode("-man")].any()
    found = coverage(words, tokenizer, ["wo-man wo-woman"])
    assert found.left == {
        "man": {"the token '-man' has no partner": 1},
        "woman": {"2 tokens: '-w', 'oman'": 1},
    }


def test_a_long_warning_names_the_first():
    words = [f"w{'abcdefghij'[i]}" for i in range(10)]
    tokenizer = bytewise([*(f" {w}" for w in [*words, "other"]), *words], GPT2)
    with pytest.warns(UserWarning, match="'other'.* are not moved"):
        equality(tokenizer, [[words[0], "other"]])
    lists = [[w, "other" + w] for w in words]
    tokenizer = bytewise([*(f" {w}" for words in lists for w in words), *words], GPT2)
    with pytest.warns(UserWarning, match="'otherwf' and 4 more are not moved"):
        equality(tokenizer, lists)


def test_the_warning_points_to_the_line_that_made_the_model():
    tokenizer = some_without_partner()
    with pytest.warns(UserWarning, match="more than one token") as said:
        lm_of(tokenizer, [["he", "she"]])
    assert {warning.filename for warning in said} == {__file__}


def test_a_word_as_it_is_written_goes_before_capitals():
    tokenizer = bytewise(
        [" us", " them", " US", " UK", " THEM", " a", " the", " A", " The", " THE"], GPT2
    )
    words = equality(tokenizer, [["us", "them"], ["US", "UK"]])
    assert words.cycles == [(" us", " them"), (" US", " UK")] and words.left_out[" US"] == [" US"]
    words = equality(tokenizer, [["a", "the"]], ["us"])
    assert words.cycles == [(" a", " the"), (" A", " The")] and words.left_out[" A"] == [" A"]
    words = equality(tokenizer, [["US", "UK"]], ["us"])
    assert words.kept == {"us": {" us": tokenizer.encode(" us")[0]}}
    assert words.left_out[" US"] == [" US"]
    words = equality(tokenizer, [["us", "them"]], ["US"])
    assert words.cycles == [(" us", " them")] and list(words.kept["US"]) == [" US"]
    assert words.left_out[" US"] == [" US"]


def test_general_words_are_kept_in_every_spelling():
    tokenizer = tokenizer_of(tiktoken_like)
    words = equality(tokenizer, COLOUR, ["he"])
    shown = {tokenizer.decode([i]) for i in words.general}
    assert {" he", "He", "(he", "“HE", '"he'} < shown and len(shown) == 30
    assert words.kept["he"]["(he"] in words.general


def test_only_a_word_that_the_model_cannot_score_is_refused():
    """The tokenizer may have more tokens than the model has scores, as Gemma's has."""
    tokenizer = gpt2_like()
    size = len(tokenizer)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    words = equality(tokenizer, COLOUR, size=size)
    assert words.perms.shape == (3, size)
    last = max(words.moved.nonzero()[:, 0].tolist())
    with pytest.raises(ValueError, match=rf"is token {last}: .* scores only {last}.*resize_token"):
        equality(tokenizer, COLOUR, size=last)
    with pytest.raises(ValueError, match=r"' he' is token \d+: the tokenizer has \d+ tokens"):
        equality(tokenizer, [["man", "woman"]], ["he"], size=tokenizer.encode(" he")[0])


@pytest.mark.parametrize(
    ("lists", "general", "message"),
    [
        ([["he", "He"]], None, "' He' and ' He' are the same token"),
        ([["red", "zebra", "green"]], None, r"'zebra': no spelling .* whole list \['red'"),
        ([["he", "she"]], ["zebra"], "general word 'zebra' has no spelling"),
    ],
)
def test_words_that_cannot_be_moved(lists, general, message):
    with pytest.raises(ValueError, match=message):
        equality(tokenizer_of(gpt2_like), lists, general)


def test_words_that_are_one_token_to_the_tokenizer():
    lower = tokenizer_of(partial(wordpiece, lower=True))
    with pytest.raises(ValueError, match="' He' and ' he' are the same token"):
        equality(lower, [["he", "she"], ["He", "red"]])
    with pytest.raises(ValueError, match="' He' is the same token as ' he', which is moved"):
        equality(lower, [["he", "she"]], ["He"])


def test_the_table_of_what_moves():
    tokenizer = some_without_partner()
    words = equality(tokenizer, {"gender": [["he", "she"]]})
    a, b = tokenizer.encode(" he")[0], tokenizer.encode(" she")[0]
    assert str(words) == repr(words)
    lines = repr(words).splitlines()
    assert lines[:4] == [
        f"C2 (order 2) on {len(tokenizer)} tokens, of which 6 move",
        "gender:",
        "he -> she",
        f"    ' he' {a} -> ' she' {b}",
    ]
    assert lines[-1].startswith("not one token, or no partner: ") and "'[he'" in lines[-1]
    kept = repr(equality(tokenizer_of(wordpiece), COLOUR, ["he"]))
    assert "red -> blue -> green" in kept and "he keeps its scores: ' he' " in kept


# -- records ------------------------------------------------------------------------------------------


def recorded():
    tokenizer = tokenizer_of(tiktoken_like)
    words = equality(tokenizer, LISTS["C2 x C3"])
    return words, json.loads(json.dumps(words.record()))


@pytest.mark.parametrize("lists", LISTS)
def test_a_record_makes_the_same_again(lists):
    tokenizer = tokenizer_of(tiktoken_like)
    general = {"C2": ["red"], "C3": ["he"], "C2 x C3": []}[lists]
    words = equality(tokenizer, LISTS[lists], general)
    record = json.loads(json.dumps(words.record()))
    check_record(record, LISTS[lists], general)
    again = Equality.from_record(record, len(tokenizer))
    assert again.group.name == words.group.name and torch.equal(again.perms, words.perms)
    assert torch.equal(again.general, words.general) and again.general.dtype == torch.long
    for name in ("cycles", "left_out", "lists", "kept"):
        assert getattr(again, name) == getattr(words, name)
    assert repr(again) == repr(words) and again.record() == words.record()
    assert Equality.from_record(record, len(tokenizer) + 5).perms.shape[1] == len(tokenizer) + 5


def set_at(record, path, value):
    *way, last = path
    for key in way:
        record = record[key]
    record[last] = value


FIRST = ("axes", 0, "lists", 0, "cycles", 0)  # ' man', ' woman'


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("axes",), [], "there is no axis"),
        (("axes",), None, "'axes' of the record is None: expected a list"),
        (("group",), "C3 x C2", "group 'C3 x C2', but .* are moved by C2 x C3"),
        (("general",), [3], "a general word is 3: expected a dict"),
        (("left_out",), {"x": "y"}, r"left_out\['x'\] is 'y': expected a list of strings"),
        (("axes", 1, "name"), "gender", "the axis 'gender' is there twice"),
        (("axes", 0, "lists"), [], r"have \[\] words: expected one length"),
        (("axes", 0, "lists", 0, "words"), ["man"], "the list man needs two words"),
        (
            ("axes", 0, "lists", 0, "cycles"),
            [],
            "the list man, woman needs two words and one cycle",
        ),
        ((*FIRST, "spelled"), [" man"], "the list man, woman has a cycle of 1 spellings"),
        (
            (*FIRST, "spelled"),
            [" man", " king"],
            r"' king'\] are not the words of the list man, woman",
        ),
        ((*FIRST, "spelled"), [" man", "woman"], r"'woman'\] are not the words .* in one spelling"),
        ((*FIRST, "spelled"), [" man", 3], "expected a list of strings"),
        ((*FIRST, "ids"), [5], "has 2 spellings and 1 ids"),
        ((*FIRST, "ids"), [5, "6"], "the id of ' woman' is '6': expected a whole number from 0 to"),
        ((*FIRST, "ids"), [5, 6.0], "the id of ' woman' is 6.0"),
        ((*FIRST, "ids"), [5, True], "the id of ' woman' is True"),
        ((*FIRST, "ids"), [5, -1], "the id of ' woman' is -1"),
        ((*FIRST, "ids"), [5, 10**6], "the id of ' woman' is 1000000"),
        ((*FIRST, "ids"), [5, 5], "' woman' and ' man' have the same id, 5"),
    ],
)
def test_a_damaged_record_is_refused(path, value, message):
    words, record = recorded()
    set_at(record, path, value)
    with pytest.raises(ValueError, match=message) as said:
        Equality.from_record(record, words.perms.shape[1])
    assert re.search(r"ive the lists anew[:,] from_pretrained\(\.\.\., equality=", str(said.value))


def test_a_record_that_is_none():
    for record in (None, [], {}, "C2"):
        with pytest.raises(ValueError, match="record"):
            Equality.from_record(record, 10)
    words, record = recorded()
    bare = Equality(words.group, words.perms, words.cycles, {}, words.general)
    with pytest.raises(ValueError, match=r"knows no lists of words: make it by equality"):
        bare.record()
    record["general"] = [
        {
            "word": "he",
            "spelled": ["he"],
            "ids": record["axes"][0]["lists"][0]["cycles"][0]["ids"][:1],
        }
    ]
    with pytest.raises(ValueError, match="'he' and ' man' have the same id"):
        Equality.from_record(record, 10**6)


def test_a_record_of_other_lists_is_noticed():
    tokenizer = tokenizer_of(gpt2_like)
    record = equality(tokenizer, {"a": GENDER, "b": COLOUR}).record()
    right = {"a": GENDER, "b": COLOUR}
    check_record(record, right)
    check_record(equality(tokenizer, {1: GENDER}).record(), {1: GENDER})
    check_record(record, {"a": (("man ", "woman"), np.array(["he", "she"])), "b": COLOUR})
    for lists, general, word in (
        ({"a": [["man", "queen"], ["he", "she"]], "b": COLOUR}, None, "queen"),
        ({"a": [["woman", "man"], ["he", "she"]], "b": COLOUR}, None, "woman"),
        ({"a": [["man", "woman"]], "b": COLOUR}, None, "red"),
        ({"a": [*GENDER, ["his", "her"]], "b": COLOUR}, None, "his"),
        ({"a": GENDER}, None, "red"),
        ({"b": COLOUR, "a": GENDER}, None, "red"),
        (GENDER, None, "man"),
        (right, ["zebra"], "zebra"),
        ({"a": [["man", "woman", "he", "she"]], "b": COLOUR}, None, "he"),
    ):
        with pytest.raises(ValueError, match=f"changed after saving: the word '{word}'"):
            check_record(record, lists, general)
    with pytest.raises(ValueError, match="the word 'red' of the general words"):
        check_record(equality(tokenizer, GENDER, ["red"]).record(), GENDER)


# -- coverage -----------------------------------------------------------------------------------------


def test_coverage_by_hand():
    """WordPiece: man and woman are tokens, MAN is not, snowman is snow ##man, manhe is man ##he."""
    tokens = "[UNK] man woman he she red green blue Man Woman MAN snow ##man ##he H ##E ##MAN ' s , . ( )"
    core = Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(tokens.split())}, unk_token="[UNK]")
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = fast(core, unk_token="[UNK]")
    words = equality(tokenizer, {"a": GENDER, "b": COLOUR})
    found = coverage(
        words,
        tokenizer,
        ["man woman, Man. (man) he's HE", "snowman manhe manhe MAN WOMAN mAN", "", "red green_man"],
    )
    assert found.moved == {
        **{"man": 4, "woman": 1, "he": 1, "she": 0},
        **{"red": 1, "blue": 0, "green": 1},
    }
    assert found.left == {
        "man": {"the token 'MAN' has no partner": 1, "other capital letters": 1},
        "woman": {"'WOMAN' is unknown to the tokenizer": 1},
        "he": {"2 tokens: 'H', 'E'": 1},
    }
    assert found.pieces == {"manhe": 2} and found.share == pytest.approx(8 / 12)


def test_coverage_where_signs_belong_to_tokens():
    """Tokens are whatever stands between blanks."""
    tokens = ["he", " he", "she", " she", "(she", "(he", " (she", " he's", "he,", "she,"]
    tokenizer = bytewise(tokens, r"\s*\S+")
    words = equality(tokenizer, [["he", "she"]])
    found = coverage(words, tokenizer, ["he she, he's (she", "(he", "(she he, he, he"])
    assert found.moved == {"he": 3, "she": 1}
    assert found.left == {
        "he": {'part of the token " he\'s"': 1, "2 tokens: 'h', 'e'": 2},
        "she": {"3 tokens: 's', 'h', 'e'": 1, "the token ' (she' has no partner": 1},
    }
    assert not found.pieces and found.share == pytest.approx(4 / 9)


def test_coverage_of_words_in_other_letters():
    """Capitals move with a tokenizer that makes them small, and so does a word with an accent more."""
    tokenizer = tokenizer_of(partial(wordpiece, lower=True))
    found = coverage(equality(tokenizer, GENDER), tokenizer, ["He HE hE hé", "theman"])
    assert found.moved["he"] == 3 and not found.left and found.pieces == {"hé": 1}


def test_coverage_of_a_word_that_is_another_in_capitals():
    tokenizer = bytewise([" us", " them", " US", " UK"], GPT2)
    words = equality(tokenizer, [["us", "them"], ["US", "UK"]])
    found = coverage(words, tokenizer, [" us US Us THEM"])
    assert (found.moved["us"], found.moved["US"]) == (1, 1)
    assert found.left == {
        "us": {"2 tokens: 'U', 's'": 1},
        "them": {"4 tokens: 'T', 'H', 'E', 'M'": 1},
    }


def test_coverage_where_a_blank_is_put_before_the_text():
    """The blank is a token of its own there, and is said to stand for the first letter."""
    signs = ["▁", "HE", "SHE", "he", "she", "▁he", "▁she"]
    tokenizer = metaspace(models.Unigram([("<unk>", 0.0), *((s, -1.0) for s in signs)], unk_id=0))
    read = tokenizer("HE", return_offsets_mapping=True)
    assert len(read["input_ids"]) == 2 and read["offset_mapping"][0][1] > 0
    found = coverage(equality(tokenizer, [["he", "she"]]), tokenizer, ["HE he SHE"])
    assert found.moved == {"he": 2, "she": 1} and not found.pieces and found.share == 1


def test_coverage_says_what_it_needs():
    tokenizer = tokenizer_of(gpt2_like)
    words = equality(tokenizer, GENDER)
    with pytest.raises(TypeError, match="expected a list of strings, got one string"):
        coverage(words, tokenizer, "he")
    with pytest.raises(ValueError, match="SimpleNamespace does not tell which letters"):
        coverage(words, slow(["he"]), ["he"])
    bare = Equality(words.group, words.perms, words.cycles, {}, words.general)
    with pytest.raises(ValueError, match="knows no lists of words"):
        coverage(bare, tokenizer, ["he"])


def test_coverage_of_nothing_and_its_table():
    tokenizer = tokenizer_of(gpt2_like)
    nothing = coverage(equality(tokenizer, GENDER), tokenizer, [])
    assert np.isnan(nothing.share) and str(nothing).startswith("0 of 0 occurrences are moved\n")
    reasons = {f"reason {i}": 10 - i for i in range(7)}
    pieces = {f"word{i}": 20 - i for i in range(12)}
    lines = str(Coverage({"he": 51, "woman": 3}, {"he": reasons}, pieces)).splitlines()
    assert lines[0] == "54 of 103 occurrences are moved (52.4%)"
    assert lines[1:3] == ["  he    51 of 100", "        left 10: reason 0"]
    assert lines[7:9] == ["        left 9: other reasons, see .left", "  woman 3 of 3"]
    assert lines[9].startswith("174 moved tokens are pieces of other words: 'word0' 20, 'word1' 19")
    assert lines[9].endswith("'word9' 11 and 2 more words") and len(lines) == 10


def test_coverage_of_texts_that_a_reader_writes():
    """On GPT-2's tokens: what a list of two pairs does not reach, and what it moves beside."""
    tokenizer = tokenizer_of(gpt2)
    words = equality(tokenizer, GENDER)
    texts = [
        "The snowman melted",
        "www.manpage.org",
        "heheh",
        "HE AND SHE",
        "is it a HE?",
        "A WOMAN",
    ]
    found = coverage(words, tokenizer, texts)
    assert found.pieces == {"snowman": 1, "manpage": 1, "heheh": 2}
    assert found.moved == {"man": 0, "woman": 0, "he": 1, "she": 1}
    assert found.left == {
        "woman": {"2 tokens: ' WOM', 'AN'": 1},
        "he": {"the token 'HE' has no partner": 1},
    }
