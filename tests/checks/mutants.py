"""Mutants of the model answers, made by a program, and what the checkers say of them.

    python tests/checks/mutants.py            # both tables, in Markdown
    python tests/checks/mutants.py symmetrized   # every mutant of one part, with the verdict

A mutant is the model answer with one thing changed: in its text (a term dropped, another index) or
around it (detached, cut off to whole numbers). A checker should refuse each that gives another answer
to some valid input; EQUIVALENT lists those that do not, with the reason.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import io
import itertools
import json
import linecache
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import equitutor as eq

SOURCES = Path(__file__).parents[2] / "book" / "assignments" / "source"
CHECK = re.compile(r"^eq\.checks\.check_(\w+)\((\w+)(?:, .*)?\)$", re.M)
SECONDS = 0.5  # of computing, for one mutant: some never end


FILE = "<mutant of"  # so begin the names of the files that the mutants seem to be in


class Part(NamedTuple):
    """A part of an assignment: its model answer, and what is defined before it."""

    notebook: str
    check: str
    name: str
    before: str
    text: str


class Mutant(NamedTuple):
    """A changed model answer, as a program text and perhaps something around it."""

    family: str
    change: str
    text: str
    around: tuple = ()


def parts() -> list[Part]:
    """All parts whose answer a checker compares with the model's: not the project, nor assignment 7."""
    found = []
    for path in sorted(SOURCES.glob("0[1-5]*.ipynb")):
        cells = ["".join(c["source"]) for c in json.loads(path.read_text("utf-8"))["cells"]]
        before = "import torch\nfrom torch import nn\nimport equitutor as eq\n"
        for cell, check in itertools.pairwise(cells):
            match = CHECK.match(check)
            if "# BEGIN SOLUTION" in cell and match and "," not in check:
                found.append(Part(path.stem, match[1], match[2], before, cell))
                before += cell + "\n"
    return found


# -- changes of the text ----------------------------------------------------------------------

AXES = {"sum", "mean", "amin", "amax", "min", "max", "argmax", "argmin", "softmax", "log_softmax"}
AXES |= {"stack", "cat", "all", "any", "unflatten", "flatten", "unique", "repeat", "unsqueeze"}
ELEMENTS = {"g", "h", "d", "p", "perms", "perm"}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
OPERATORS |= {ast.FloorDiv: ast.Mult, ast.MatMult: ast.Mult, ast.BitOr: ast.BitAnd}
COMPARED = {
    ast.Eq: ast.NotEq,
    ast.NotIn: ast.In,
    ast.Gt: ast.GtE,
    ast.In: ast.NotIn,
    ast.Lt: ast.LtE,
}
IN_PLACE = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def replaced(
    node: ast.AST, local: set[str], arguments: set[str]
) -> Iterator[tuple[str, ast.AST | None]]:
    """(family, what could stand in place of a node), one change at a time."""
    match node:
        case ast.BinOp(left, op, right):
            yield "a term dropped", left
            yield "a term dropped", right
            if type(op) in OPERATORS:
                yield "another sign", ast.BinOp(left, OPERATORS[type(op)](), right)
            if not isinstance(op, (ast.Add, ast.Mult)):
                yield "swapped arguments", ast.BinOp(right, op, left)
            if type(op) in IN_PLACE and not isinstance(left, ast.Constant):
                changed = ast.Attribute(left, IN_PLACE[type(op)], ast.Load())
                yield "in place", ast.Call(changed, [right], [])
        case ast.UnaryOp(ast.Invert(), operand):
            yield "g for g^-1", operand
        case ast.UnaryOp(ast.USub(), operand):
            yield "another sign", operand
        case ast.Compare(left, [op], [right]) if type(op) in COMPARED:
            yield "another sign", ast.Compare(left, [COMPARED[type(op)]()], [right])
        case ast.Call(ast.Attribute(value, name), args, keywords):
            yield "a term dropped", value
            if name in AXES:
                yield from axes(node)
            if len(args) > 1:
                yield (
                    "swapped arguments",
                    ast.Call(node.func, [args[1], args[0], *args[2:]], keywords),
                )
            if name in ("square", "softmax", "exp", "sqrt", "abs"):
                yield (
                    "in place",
                    ast.Call(ast.Attribute(value, name + "_", ast.Load()), args, keywords),
                )
        case ast.Call(ast.Name(name), args, keywords):
            if len(args) == 1 and name not in ("range", "len", "enumerate", "set"):
                yield "a term dropped", args[0]
            if len(args) > 1:
                yield (
                    "swapped arguments",
                    ast.Call(node.func, [args[1], args[0], *args[2:]], keywords),
                )
            if name in arguments | {"fair_scores", "symmetrized"} and len(args) != 2:
                yield "detached", ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])
            if name == "range":
                yield "another index", ast.Call(node.func, [ast.Constant(1), *args], [])
                yield (
                    "another index",
                    ast.Call(node.func, [ast.BinOp(args[0], ast.Sub(), ast.Constant(1))], []),
                )
        case ast.Subscript(value, ast.Tuple(parts)) if isinstance(node.ctx, ast.Load):
            if len(parts) == 2:
                swap = ast.Tuple([parts[1], parts[0]], ast.Load())
                yield "another index", ast.Subscript(value, swap, ast.Load())
            for part in parts:
                if not isinstance(part, (ast.Slice, ast.Constant)):
                    yield "another index", ast.Subscript(value, part, ast.Load())
            yield "a term dropped", value
        case ast.Subscript(value, index) if isinstance(node.ctx, ast.Load):
            yield "another index", ast.Subscript(value, ast.Constant(0), ast.Load())
            yield "another index", ast.Subscript(value, ast.Constant(-1), ast.Load())
            if not isinstance(index, ast.Slice):
                yield "a term dropped", value
        case ast.Subscript(value, ast.Tuple([a, b])) if isinstance(node.ctx, ast.Store):
            yield "another index", ast.Subscript(value, ast.Tuple([b, a], ast.Load()), ast.Store())
        case ast.Name(name) if isinstance(node.ctx, ast.Load):
            if name in ELEMENTS & local:
                yield "g for g^-1", parsed(f"_inverse({name})")
            for other in sorted(arguments - {name}) if name in arguments else ():
                yield "swapped arguments", ast.Name(other, ast.Load())
        case ast.Constant(value) if type(value) is int:
            for other in sorted({0, 1, -1, value + 1} - {value}):
                yield "another index", ast.Constant(other)
        case ast.Constant(None):
            yield "another index", ast.Slice()
        case ast.For() | ast.comprehension():
            for family, text in (("first element only", "[:1]"), ("last element only", "[1:]")):
                some = copy.deepcopy(node)
                some.iter = parsed(f"list({ast.unparse(node.iter)}){text}")
                yield family.replace("last element only", "first element skipped"), some
        case ast.AugAssign(target, op, value):
            yield "a term dropped", ast.Assign([target], value, lineno=0)
            yield "another sign", ast.AugAssign(target, OPERATORS.get(type(op), ast.Sub)(), value)
        case ast.Assign([ast.Subscript()], _):
            yield "a term dropped", ast.Pass()
        case ast.Return(ast.Tuple([a, b])):
            yield "swapped arguments", ast.Return(ast.Tuple([b, a], ast.Load()))
        case ast.Return(value):
            for family, wrapper in AROUND.items():
                yield family, ast.Return(ast.Call(ast.Name(wrapper, ast.Load()), [value], []))
    if isinstance(node, ast.For):
        body = copy.deepcopy(node)
        body.body = [*body.body, ast.Break()]
        yield "first element only", body
    if isinstance(node, (ast.For, ast.While)):  # as if the return stood inside the loop
        inside = copy.deepcopy(node)
        inside.body = [*inside.body, "RETURN"]
        yield "returned inside the loop", inside


def axes(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """The same call along other axes."""
    numbers = [i for i, arg in enumerate(node.args) if is_axis(arg)]
    for i in numbers:
        for other in (0, 1, -1):
            if ast.unparse(node.args[i]) != str(other):
                args = [*node.args[:i], parsed(str(other)), *node.args[i + 1 :]]
                yield "another axis", ast.Call(node.func, args, node.keywords)
    name = node.func.attr
    if name in ("sum", "mean") and node.args:
        yield "another axis", ast.Call(node.func, [], [])
        keep = ast.keyword("keepdim", ast.Constant(True))
        yield "another axis", ast.Call(node.func, node.args, [*node.keywords, keep])


def is_axis(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, (ast.Constant, ast.Tuple)) and not isinstance(
        getattr(node, "value", 0), str
    )


AROUND = {
    "detached": "_detached",
    "int": "_int",
    "abs": "_abs",
    "another sign": "_negative",
    "constant": "_constant",
    "another axis": "_summed",
    "first element only": "_first_row",
}


# What stands around a returned value, applied to every number in it.


def over(change):
    def changed(value):
        if isinstance(value, (tuple, list)):
            return type(value)(map(changed, value))
        return change(value)

    return changed


HELPERS = {
    "_detached": over(lambda v: v.detach() if isinstance(v, Tensor) else v),
    "_int": over(lambda v: v.trunc() if isinstance(v, Tensor) else int(v)),
    "_abs": over(abs),
    "_negative": over(lambda v: -v if not isinstance(v, Tensor) or v.dtype != torch.bool else ~v),
    "_constant": over(lambda v: torch.ones_like(v) if isinstance(v, Tensor) else type(v)(1)),
    "_summed": over(lambda v: v.sum(0) if isinstance(v, Tensor) and v.ndim else v),
    "_first_row": over(
        lambda v: v[:1].expand_as(v).clone() if isinstance(v, Tensor) and v.ndim else v
    ),
    "_inverse": lambda g: (
        g.argsort(-1)
        if isinstance(g, Tensor)
        else torch.tensor(g).argsort(-1).tolist()
        if isinstance(g, (list, tuple))
        else ~g
    ),
}


def memorised(function, key):
    """Every answer is kept, and given again for arguments that look alike."""
    kept = {}

    def remembering(*args):
        name = key(args)
        if name not in kept:
            kept[name] = function(*args)
        return copy.deepcopy(kept[name])

    return remembering


def looks(value):
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def spoiled(function, i):
    """The i-th argument is changed after its use."""

    def spoiling(*args):
        answer = function(*args)
        args[i].add_(1)
        return answer

    return spoiling


def in_float32(function):
    def coarse(v):
        if isinstance(v, Tensor) and v.is_floating_point():
            return v.float().double()
        if callable(v) and not isinstance(v, eq.Action):
            return lambda *args: coarse(v(*args))
        return v

    def rough(*args):
        answer = function(*map(coarse, args))
        return over(lambda v: coarse(v) if isinstance(v, Tensor) else v)(answer)

    return rough


def exchanged(function, i, j):
    def other(*args):
        args = list(args)
        args[i], args[j] = args[j], args[i]
        return function(*args)

    return other


# -- all mutants of a part --------------------------------------------------------------------


def mutants(part: Part) -> list[Mutant]:
    """One change each; no two with the same text."""
    tree = ast.parse(part.text)
    (index,) = (i for i, n in enumerate(tree.body) if getattr(n, "name", "") == part.name)
    function = tree.body[index]
    local = {n.arg for n in function.args.args}
    arguments = set(local)
    local |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
    found, seen = [], {ast.unparse(tree)}
    for place in range(sum(1 for _ in ast.walk(function))):
        node = nth(function, place)
        for family, other in replaced(node, local, arguments):
            changed = copy.deepcopy(tree)
            new = with_returns(copy.deepcopy(other), changed.body[index])
            if new is None or not put(changed.body[index], place, new):
                continue
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                around = node
                if isinstance(node, (ast.Name, ast.Constant)):
                    around = parent(function, place)
                    new = parent(changed.body[index], place)
                found.append(Mutant(family, f"{brief(around)} -> {brief(new)}", text))
    n = len(function.args.args)
    names = [a.arg for a in function.args.args]
    around = [("memorised", "by all shapes", ("memorised", None))]
    around += [("memorised", f"by {names[i]}", ("memorised", i)) for i in range(min(n, 2))]
    around += [("input changed", names[i], ("spoiled", i)) for i in range(n)]
    around += [("float32 inside", "arguments", ("float32",))]
    around += [
        ("swapped arguments", f"{names[i]}, {names[i + 1]}", ("exchanged", i)) for i in range(n - 1)
    ]
    text = ast.unparse(tree)
    return found + [Mutant(family, what, text, how) for family, what, how in around]


def nth(root: ast.AST, place: int) -> ast.AST:
    return next(n for i, n in enumerate(ast.walk(root)) if i == place)


def parent(root: ast.AST, place: int) -> ast.AST:
    """The smallest expression or statement around the node at this place."""
    node = nth(root, place)
    return next(n for n in ast.walk(root) if any(c is node for c in ast.iter_child_nodes(n)))


def put(root: ast.AST, place: int, new: ast.AST) -> bool:
    """Put a node in place of the one that ast.walk meets at this place."""
    old = nth(root, place)
    for parent in ast.walk(root):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return True
            if isinstance(value, list) and any(v is old for v in value):
                value[[v is old for v in value].index(True)] = new
                return True
    return False


def with_returns(new, function):
    """Fill in the function's own return where a mutant returns inside a loop."""
    body = getattr(new, "body", None)
    if isinstance(body, list) and "RETURN" in body:
        last = [n for n in function.body if isinstance(n, ast.Return)]
        if not last:
            return None
        body[body.index("RETURN")] = copy.deepcopy(last[-1])
    return new


def brief(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:70]


@functools.cache
def space_before(before: str) -> dict:
    space = {}
    exec(before, space)
    return space


def made(part: Part, mutant: Mutant):
    """The mutant as a function."""
    space = dict(space_before(part.before)) | HELPERS
    file = f"{FILE} {part.name}>"
    linecache.cache[file] = (len(mutant.text), None, mutant.text.splitlines(True), file)
    exec(compile(mutant.text, file, "exec"), space)
    function = space[part.name]
    match mutant.around:
        case ("memorised", None):
            return memorised(function, lambda args: tuple(map(looks, args)))
        case ("memorised", i):
            return memorised(function, lambda args: looks(args[i]))
        case ("spoiled", i):
            return spoiled(function, i)
        case ("float32",):
            return in_float32(function)
        case ("exchanged", i):
            return exchanged(function, i, i + 1)
    return function


# -- mutants that give the same answer to every valid input ------------------------------------

WHOLE = "generate|cayley_table|count_graphs|dimension|pixel_orbits|word_rows|generate_fair"
NUMBER = "count_graphs|asymmetry|dimension|fairness_gap"
UNTRAINED = "move_graph|asymmetry|entropies|fair_scores|relaxed_scores|fairness_gap"
EQUIVALENT = {  # reason: (parts, family or change), each to be searched for
    "the answer is made of whole numbers: no gradient, no sign and no digits to lose": [
        (WHOLE, r"_detached\(|_int\(|_abs\(|^float32"),
        ("orbit_and_stabiliser", "^float32"),  # it compares entries of a graph, 0 or 1
        ("generate_fair", r"\.detach\(\)$"),
    ],
    "nothing is trained through this answer": [(UNTRAINED, r"_detached\(|\.detach\(\)$")],
    "the answer is never negative": [("asymmetry|entropies|fairness_gap", r"_abs\(")],
    "the answer is one number, without axes and rows": [(NUMBER, r"_summed\(|_first_row\(")],
    "it is the same number, of another type": [
        ("orbit_and_stabiliser", r"^a term dropped: int\("),
        ("asymmetry", r"^a term dropped: float\("),
        ("dimension", r"^a term dropped: round\("),
        ("fairness_gap", r"^a term dropped: .*item\(\) ->"),
        ("choose_view", r"losses\.dtype$"),  # of which the dtype is used
    ],
    "it is the same axis, counted from the other end": [
        ("generate|count_graphs", r"shape\[-1\]$"),
        ("orbit_and_stabiliser", r"all\(-1\)$"),
        ("pool", "^another sign: -2 -> 2$"),
        ("lift", r"\(1, 2, -1\)$"),
        ("lift|autocorrelation", r"stack\(\w+, -1\)$"),
        ("autocorrelation", r"sum\(-1\)$"),
        ("entropies|fairness_gap", r"(softmax|sum)\(1\)$"),
        ("entropies|fairness_gap|generate_fair", "^another index: -1 -> --1$"),
        ("generate_fair", r"argmax\(1, keepdim=True\)$|best\], -1\)$"),
    ],
    "the inverses of all elements are all elements, as many, and generate the same": [
        ("generate", r"_inverse\(g\)\[i\]$"),
        ("orbit_and_stabiliser|fair_scores|fairness_gap", r"-> for p in _inverse\(perms\)"),
        ("count_graphs", r"_inverse\(p(erms)?\)"),  # which has the same cycles
        ("pixel_orbits", r"_inverse\(perms\)\.amin$"),
        ("word_rows|fair_scores", r"-> len\(_inverse\(perms\)\)$"),
        ("relaxed_scores|generate_fair", r"fair_scores\(model, ids, _inverse\(perms\)\)$"),
        ("autocorrelation", r"h @ _inverse\(d\)$"),  # a(d^-1) = a(d), as h goes to h d
    ],
    "both actions are of the same group": [
        ("symmetrized|in_one_batch|asymmetry", r"in_action\.group -> out_action\.group$")
    ],
    "it is exchanged where order does not matter": [
        ("asymmetry", r"-> out_action\(g, average\) - y$"),
        ("dimension", "^swapped arguments: rho_in, rho_out$"),  # tr A tr B = tr B tr A
        ("fairness_gap", r"-> (here - there|max\(\(there - here\).*, worst\))$"),
    ],
    "the labels are other numbers, equal in the same places": [("pixel_orbits", r"_negative\(")],
    "what is changed in place was made here": [
        ("symmetrized|in_one_batch|fair_scores", r"^in place: .*\.div_\("),
        ("asymmetry|dimension|straight_through|fairness_gap", "^in place: "),
    ],
    "a round of the loop less, in which nothing happens": [
        ("generate", "size = -1$"),
        ("count_graphs", r"\[1:\]$|range\(1, n\)$"),
    ],
    "shapes broadcast to the same": [
        ("move_graph", r"^a term dropped: p\[None, :\] -> p$"),
        ("weighted_average", r"lam.sum\(0, keepdim=True\)$"),
    ],
    "a copy of what is new anyway": [("relaxed_scores", r"clone\(\) ->")],
}


def reason(part: Part, mutant: Mutant) -> str | None:
    """Why a mutant gives the same answers as the model answer, if it is listed."""
    what = f"{mutant.family}: {mutant.change}"
    for why, patterns in EQUIVALENT.items():
        for names, change in patterns:
            if re.fullmatch(names.replace(".", r"\w+"), part.name) and re.search(change, what):
                return why
    return None


# -- verdicts ---------------------------------------------------------------------------------


class Verdict(NamedTuple):
    accepted: bool
    said: str

    @property
    def named(self) -> bool:
        """Whether it says what was probably done, not only that the answer is wrong."""
        words = "^  Probably|^  Perhaps|changed its arguments|returned nothing"
        return bool(re.search(words, self.said, re.M))

    @property
    def stopped(self) -> bool:
        return "it stopped with" in self.said


class TooLongError(Exception):
    pass


def too_long(_, frame):
    """Stop the mutant, but nothing of the checker itself."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(FILE):
            raise TooLongError(f"no end after {SECONDS} seconds")
        frame = frame.f_back


def judged(part: Part, mutant: Mutant) -> Verdict:
    """What the part's checker says of a mutant."""
    out = io.StringIO()
    signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
    try:
        with contextlib.redirect_stdout(out):
            accepted = getattr(eq.checks, f"check_{part.check}")(made(part, mutant))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return Verdict(accepted, out.getvalue())


class Found(NamedTuple):
    """A mutant with its verdict."""

    part: Part
    mutant: Mutant
    verdict: Verdict

    def __str__(self) -> str:
        said = "accepted" if self.verdict.accepted else "named" if self.verdict.named else "refused"
        return f"{self.part.name}: {said}: {self.mutant.family}: {self.mutant.change}"


@functools.cache
def everything() -> tuple[Found, ...]:
    """All mutants of all parts, judged."""
    return tuple(
        Found(part, mutant, judged(part, mutant)) for part in parts() for mutant in mutants(part)
    )


def table() -> str:
    """Mutants made, equivalent, refused and named, for each part, in Markdown."""
    lines = ["| part | made | equivalent | refused | named | of these, by an exception |"]
    lines.append("|---|" + "--:|" * 5)
    rows = {}
    for found in everything():
        name = f"{found.part.notebook[:2].lstrip('0')} `{found.part.name}`"
        for key in (name, "all"):
            row = rows.setdefault(key, Counter())
            row["made"] += 1
            row["accepted"] += found.verdict.accepted
            row["refused"] += not found.verdict.accepted
            row["named"] += not found.verdict.accepted and found.verdict.named
            row["stopped"] += found.verdict.stopped and found.verdict.named
    rows["all"] = rows.pop("all")
    for name, row in rows.items():
        numbers = (row[k] for k in ("made", "accepted", "refused", "named", "stopped"))
        lines.append(f"| {name} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


def families() -> str:
    """Wrong mutants, and those that were named, by the kind of change, the most frequent first."""
    refused, named = Counter(), Counter()
    for found in everything():
        refused[found.mutant.family] += not found.verdict.accepted
        named[found.mutant.family] += not found.verdict.accepted and found.verdict.named
    lines = ["| what was changed | refused | named |", "|---|--:|--:|"]
    ranked = sorted(refused.items(), key=lambda item: (-item[1], item[0]))
    return "\n".join(lines + [f"| {name} | {count} | {named[name]} |" for name, count in ranked])


def main(names: list[str]) -> None:
    if not names:
        print(table(), families(), sep="\n\n")
        return
    for part in parts():
        for mutant in mutants(part) if part.name in names or names == ["all"] else ():
            found = Found(part, mutant, judged(part, mutant))
            print(f"{found}\n{'' if found.verdict.accepted else found.verdict.said}")


if __name__ == "__main__":
    main(sys.argv[1:])
