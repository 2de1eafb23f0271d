"""Groups: the laws are checked, the families are what they claim, elements compute and print."""

import copy
import itertools
import math
import pickle
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.combinatorics import Permutation as SympyPermutation
from sympy.combinatorics import PermutationGroup as SympyGroup
from zoo import A4, C3, C4, D3, D4, D5, S3, S4, permutation_groups

import equitutor as eq

#: A Latin square with identity 0 where every element is its own inverse; of prime order 5, so no group.
LOOP = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]


def quaternions() -> eq.FiniteGroup:
    """Q8 from the rules i i = j j = k k = i j k = -1."""
    units = ["1", "i", "j", "k"]
    products = {("i", "j"): "k", ("j", "k"): "i", ("k", "i"): "j"}

    def multiply(x: tuple[int, str], y: tuple[int, str]) -> tuple[int, str]:
        (s, a), (t, b) = x, y
        if a == "1" or b == "1":
            return s * t, a if b == "1" else b
        if a == b:
            return -s * t, "1"
        if (a, b) in products:
            return s * t, products[a, b]
        return -s * t, products[b, a]

    elements = [(s, u) for u in units for s in (1, -1)]
    table = [[elements.index(multiply(x, y)) for y in elements] for x in elements]
    return eq.FiniteGroup(table, [("" if s > 0 else "-") + u for s, u in elements], "Q8")


FAMILIES = [
    *(eq.cyclic(n) for n in (1, 2, 3, 4, 5, 6, 12)),
    *(eq.dihedral(n) for n in (1, 2, 3, 4, 5, 6)),
    *(eq.symmetric(n) for n in (1, 2, 3, 4)),
    A4,
    quaternions(),
    eq.direct_product(eq.cyclic(2), C3, C4),
    eq.direct_product(D3, C4),
]
families = pytest.mark.parametrize("group", FAMILIES, ids=repr)


def element_orders(group: eq.FiniteGroup) -> dict[int, int]:
    """{order: how many elements have it}, the same for isomorphic groups."""
    return dict(Counter(g.order for g in group))


def classes(group: eq.FiniteGroup) -> int:
    """The number of conjugacy classes."""
    return len({frozenset(h @ g @ ~h for h in group) for g in group})


# -- the laws ---------------------------------------------------------------------------------


@families
def test_the_laws_hold(group):
    e = group.identity
    for g in group:
        assert g @ e == e @ g == g
        assert g @ ~g == ~g @ g == e
        assert ~~g == g
    some = list(group)[:6]
    for a, b, c in itertools.product(some, repeat=3):
        assert (a @ b) @ c == a @ (b @ c)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0, 1, 2], [1, 2, 0]], r"square array .* n rows of n .* got shape \(2, 3\)"),
        ([0, 1], r"square array.* got shape \(2,\)"),
        ([], r"square array.* got shape \(0,\)"),
        ([[0, 1], [1]], "square array of the integers"),
        ([["e", "r"], ["r", "e"]], "square array of the integers"),
        ([[2**70]], "square array of the integers"),
        (None, "square array of the integers"),
        ([[0.0, 1.0], [1.0, 0.0]], "integers 0..n-1, .* dtype torch.float32"),
        ([[False, True], [True, False]], "got shape .* dtype torch.bool"),
        ([[0, 1], [1, 2]], "not closed, the product of elements 1 and 1 is 2"),
        ([[0, 1], [1, -1]], "not closed, the product of elements 1 and 1 is -1"),
        ([[0, 0], [1, 1]], "no identity"),  # x y = x: associative, every element a right identity
        ([[0, 1], [0, 1]], "no identity"),  # x y = y
        (LOOP, "not associative"),
        ([[0, 1], [1, 1]], r"g1 has no inverse \(no h with g1 h = h g1 = g0\)"),  # 1 and 0, times
    ],
)
def test_a_table_that_breaks_one_law_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        eq.FiniteGroup(table)


def test_the_associativity_error_names_elements_that_break_it():
    names = list("evwxy")
    with pytest.raises(ValueError, match="not associative") as caught:
        eq.FiniteGroup(LOOP, names)
    pattern = r"\((\w) (\w)\) (\w) = (\w) but (\w) \((\w) (\w)\) = (\w)\."
    a, b, c, left, *again, right = re.search(pattern, str(caught.value)).groups()
    assert again == [a, b, c]
    a, b, c = map(names.index, (a, b, c))
    assert names[LOOP[LOOP[a][b]][c]] == left
    assert names[LOOP[a][LOOP[b][c]]] == right
    assert left != right


@given(st.data())
def test_one_wrong_entry_in_a_table_is_always_noticed(data):
    """Two group tables of one order differ in many places, never in one."""
    table = data.draw(st.sampled_from([C4, D3, quaternions()])).table.clone()
    i, j = (data.draw(st.integers(0, len(table) - 1)) for _ in range(2))
    wrong = data.draw(st.integers(0, len(table) - 1).filter(lambda k: k != int(table[i, j])))
    table[i, j] = wrong
    with pytest.raises(ValueError, match="not a group"):
        eq.FiniteGroup(table)


def test_the_identity_need_not_come_first():
    group = eq.FiniteGroup([[1, 2, 0], [2, 0, 1], [0, 1, 2]], ["r", "r2", "e"])  # C3, e last
    assert group.identity.name == "e"
    assert group["r"] @ group["r"] == group["r2"] == ~group["r"]


def test_the_table_may_be_numpy_or_tensor_and_is_copied():
    table = torch.tensor([[0, 1], [1, 0]], dtype=torch.int32)
    group = eq.FiniteGroup(table)
    table[0, 0] = 1
    assert group.table.tolist() == [[0, 1], [1, 0]]
    assert eq.FiniteGroup(np.array([[0, 1], [1, 0]])) == group


@pytest.mark.parametrize("names", [["e"], ["e", "e"], ["e", "r", "s"], [0, 1]])
def test_names_are_distinct_strings(names):
    with pytest.raises(ValueError, match="2 distinct strings as names"):
        eq.FiniteGroup([[0, 1], [1, 0]], names)


def test_a_groups_own_permutations_are_checked():
    table = C3.table
    rows = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert eq.FiniteGroup(table, permutations=rows).permutations.tolist() == rows
    with pytest.raises(ValueError, match=r"the row of element g1 is not a permutation of 0\.\.2"):
        eq.FiniteGroup(table, permutations=[[0, 1, 2], [1, 1, 0], [2, 0, 1]])
    with pytest.raises(ValueError, match="the permutation of g1 g1 = g2 differs"):
        eq.FiniteGroup(table, permutations=[[0, 1, 2], [1, 2, 0], [0, 1, 2]])
    with pytest.raises(ValueError, match="the identity must move nothing"):
        eq.FiniteGroup(table, permutations=[[1, 2, 0]] * 3)
    with pytest.raises(ValueError, match=r"shape \(3, n\); got shape \(2, 3\)"):
        eq.FiniteGroup(table, permutations=rows[:2])


# -- the families -----------------------------------------------------------------------------


def test_known_tables():
    assert C3.table.tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    # e r r2 s rs r2s, with s r = r2 s
    assert D3.table.tolist() == [
        [0, 1, 2, 3, 4, 5],
        [1, 2, 0, 4, 5, 3],
        [2, 0, 1, 5, 3, 4],
        [3, 5, 4, 0, 2, 1],
        [4, 3, 5, 1, 0, 2],
        [5, 4, 3, 2, 1, 0],
    ]


def test_sizes_and_commutativity():
    for n in range(1, 7):
        assert len(eq.cyclic(n)) == n and eq.cyclic(n).is_abelian
        assert len(eq.dihedral(n)) == 2 * n and eq.dihedral(n).is_abelian == (n < 3)
    for n in range(1, 6):
        assert len(eq.symmetric(n)) == math.factorial(n)
        assert eq.symmetric(n).is_abelian == (n < 3)
    assert not quaternions().is_abelian and not A4.is_abelian
    assert eq.direct_product(C3, C4).is_abelian and not eq.direct_product(C3, D3).is_abelian


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_element_orders_of_cyclic_groups(n):
    assert [g.order for g in eq.cyclic(n)] == [n // math.gcd(n, k) for k in range(n)]


@pytest.mark.parametrize("n", range(1, 9))
def test_involutions_of_dihedral_groups(n):
    """The n reflections, and the half turn if n is even."""
    assert element_orders(eq.dihedral(n))[2] == n + (n % 2 == 0)


def test_the_relation_of_the_dihedral_groups():
    for group in (D3, D4, D5):
        r, s = group["r"], group["s"]
        assert s @ r == ~r @ s != r @ s
        assert r ** (len(group) // 2) == s @ s == group.identity
        assert r @ s == group["rs"]
        # on the corners: r steps on, s reflects corner 0 onto itself
        n = len(group) // 2
        assert group.permutations[r.index].tolist() == [(i + 1) % n for i in range(n)]
        assert group.permutations[s.index].tolist() == [-i % n for i in range(n)]


def test_known_counts_of_element_orders_and_classes():
    """Counts that every isomorphic group shares, from the textbooks."""
    q8 = quaternions()
    known = {
        S3: ({1: 1, 2: 3, 3: 2}, 3),
        D3: ({1: 1, 2: 3, 3: 2}, 3),
        D4: ({1: 1, 2: 5, 4: 2}, 5),
        q8: ({1: 1, 2: 1, 4: 6}, 5),
        A4: ({1: 1, 2: 3, 3: 8}, 4),
        S4: ({1: 1, 2: 9, 3: 8, 4: 6}, 5),
        eq.direct_product(C3, eq.cyclic(2)): ({1: 1, 2: 1, 3: 2, 6: 2}, 6),  # C6
        eq.direct_product(eq.cyclic(2), eq.cyclic(2)): ({1: 1, 2: 3}, 4),  # D2, not C4
        eq.direct_product(C4, eq.cyclic(2)): ({1: 1, 2: 3, 4: 4}, 8),
        eq.direct_product(D3, eq.cyclic(2)): ({1: 1, 2: 7, 3: 2, 6: 2}, 6),  # D6
    }
    for group, (orders, number) in known.items():
        assert (element_orders(group), classes(group)) == (orders, number), group
    assert element_orders(eq.cyclic(6)) == element_orders(eq.direct_product(C3, eq.cyclic(2)))
    assert element_orders(eq.dihedral(6)) == element_orders(eq.direct_product(D3, eq.cyclic(2)))


def test_direct_products_multiply_factor_by_factor():
    group = eq.direct_product(eq.cyclic(2), C3, C4)
    assert group.factors == (eq.cyclic(2), C3, C4)
    parts = [group.components(i).tolist() for i in range(3)]
    assert list(zip(*parts, strict=True)) == list(
        itertools.product(range(2), range(3), range(4))  # the last factor fastest
    )
    g, h = group["(r, r2, r3)"], group["(e, r2, r2)"]
    assert g @ h == group["(r, r, r)"]
    assert ~g == group["(r, r, r)"]


def test_the_product_of_permutations_is_first_h_then_g():
    for group in (S4, A4):
        for g, h in itertools.product(group, repeat=2):
            pg, ph = group.permutations[g.index], group.permutations[h.index]
            expected = [int(pg[ph[i]]) for i in range(4)]
            assert group.permutations[(g @ h).index].tolist() == expected


@settings(deadline=None, max_examples=40)
@given(permutation_groups())
def test_random_permutation_groups(group):
    perms = [tuple(p) for p in group.permutations.tolist()]
    degree = len(perms[0])
    assert len(set(perms)) == len(group)
    assert SympyGroup([SympyPermutation(list(p)) for p in perms]).order() == len(group)  # closed
    assert perms[group.identity.index] == tuple(range(degree))
    for g in group:
        assert math.factorial(degree) % len(group) == 0 and len(group) % g.order == 0
        inverse = perms[(~g).index]
        assert all(inverse[perms[g.index][i]] == i for i in range(degree))
        assert g.order == SympyPermutation(list(perms[g.index])).order()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.permutations(range(5)), min_size=1, max_size=3))
def test_generated_groups_are_as_large_as_they_must_be(generators):
    group = eq.permutation_group(generators)
    assert len(group) == SympyGroup([SympyPermutation(list(p)) for p in generators]).order()
    rows = group.permutations.tolist()
    assert all(list(p) in rows for p in generators)


@families
def test_generators_generate(group):
    reached = {group.identity}
    while True:
        more = reached | {g @ s for g in reached for s in group.generators}
        if more == reached:
            break
        reached = more
    assert reached == set(group)
    assert len(group.generators) <= math.log2(len(group))  # each at least doubles what was reached


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: eq.cyclic(0), ValueError, "cyclic needs a whole number n >= 1, got 0"),
        (lambda: eq.cyclic(2.5), ValueError, "whole number n >= 1, got 2.5"),
        (lambda: eq.dihedral(True), ValueError, "dihedral needs a whole number n >= 1, got True"),
        (lambda: eq.cyclic(4097), ValueError, r"cyclic\(4097\) has 4,097 elements.*at most 4,096"),
        (lambda: eq.permutation_group(3), ValueError, "takes a list of permutations"),
        (lambda: eq.permutation_group([["a"]]), ValueError, "takes a list of permutations"),
        (lambda: eq.symmetric(-1), ValueError, "symmetric needs a whole number"),
        (lambda: eq.symmetric(7), ValueError, "5,040 elements, and a group average runs"),
        (lambda: eq.dihedral(2049), ValueError, "has 4,098 elements"),
        (lambda: eq.symmetric(50), ValueError, "over a billion.*subgroup.*sort the points.*frame"),
        (
            lambda: eq.direct_product(eq.symmetric(6), eq.symmetric(6)),
            ValueError,
            "S6 x S6 has 518,400 elements",
        ),
        (lambda: eq.permutation_group([]), ValueError, "at least one permutation"),
        (lambda: eq.permutation_group([[]]), ValueError, "at least one point"),
        (
            lambda: eq.permutation_group([[0, 0]]),
            ValueError,
            r"\[0, 0\] is not a permutation of 0..1",
        ),
        (lambda: eq.permutation_group([[1, 2]]), ValueError, r"\[1, 2\] is not a permutation"),
        (lambda: eq.permutation_group([[1, 0], [0, 1, 2]]), ValueError, "the same points"),
        (
            lambda: eq.permutation_group([[1, 2, 3, 4, 0], [1, 0, 2, 3, 4]], max_order=100),
            ValueError,
            "has 1.. elements.* at most 100",
        ),
        (lambda: eq.direct_product(C3), ValueError, "two or more groups"),
        (lambda: eq.direct_product(C3, 2), ValueError, "two or more groups"),
        (lambda: C3.components(0), ValueError, "is not a direct product"),
        (
            lambda: eq.direct_product(C3, C4).components(2),
            IndexError,
            "factors 0 to 1.* no factor 2",
        ),
        (lambda: eq.direct_product(C3, C4).components(-1), IndexError, "no factor -1"),
    ],
)
def test_families_refuse_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


# -- the elements -----------------------------------------------------------------------------


def test_names():
    assert eq.cyclic(1).names == ("e",)
    assert C4.names == ("e", "r", "r2", "r3")
    assert eq.dihedral(3).names == ("e", "r", "r2", "s", "rs", "r2s")
    assert eq.symmetric(3).names == ("e", "(1 2)", "(0 1)", "(0 1 2)", "(0 2 1)", "(0 2)")
    assert "(0 1)(2 3)" in S4.names
    assert eq.direct_product(eq.cyclic(2), eq.cyclic(2)).names[1] == "(e, r)"
    assert eq.FiniteGroup([[0]]).names == ("g0",)
    for group in (S3, S4):  # cycle notation says what the permutation does
        for g in group:
            row = list(range(group.permutations.shape[1]))
            for cycle in re.findall(r"\(([\d ]+)\)", g.name):
                points = [int(i) for i in cycle.split()]
                for i, j in zip(points, points[1:] + points[:1], strict=True):
                    row[i] = j
            assert group.permutations[g.index].tolist() == row


def test_the_groups_own_names():
    made = eq.permutation_group([[1, 2, 0]]), eq.permutation_group([[1, 2, 0]], "turns")
    assert [group.name for group in made] == ["G", "turns"]
    assert [eq.cyclic(3).name, eq.dihedral(3).name, eq.symmetric(3).name] == ["C3", "D3", "S3"]
    assert eq.direct_product(eq.cyclic(2), eq.cyclic(3)).name == "C2 x C3"


def test_dihedral_groups_move_the_corners_of_a_polygon():
    assert eq.dihedral(3).permutations[3].tolist() == [0, 2, 1]  # s keeps corner 0
    assert eq.dihedral(3).permutations[1].tolist() == [1, 2, 0]
    for n in (1, 2):  # no polygon: they permute themselves
        group = eq.dihedral(n)
        assert torch.equal(group.permutations, group.table)


def test_elements_by_name_index_and_element():
    assert C4[-4] == C4["e"] and C4.factors == ()
    assert C4["r3"] == C4[3] == C4[-1] == C4[C4["r3"]] == C4[np.int64(3)]
    assert C4["r"] in C4 and repr(C4["r"]) == "r"
    with pytest.raises(KeyError, match="has no element 's'; it has e, r, r2, r3"):
        C4["s"]
    with pytest.raises(IndexError, match="has 4 elements, and none has index 4"):
        C4[4]
    with pytest.raises(TypeError):
        C4[1.5]
    with pytest.raises(ValueError, match=r"s is an element of D4 .* not of C4"):
        C4[D4["s"]]


def test_powers():
    for group in (C4, D4, S4):
        for g in group:
            product = group.identity
            for k in range(8):
                assert g**k == product
                assert g**-k == ~product
                product = product @ g


def test_elements_of_different_groups_do_not_multiply():
    with pytest.raises(
        ValueError, match=r"cannot multiply r of C3 .* by r of C4 .* direct_product"
    ):
        C3["r"] @ C4["r"]
    with pytest.raises(TypeError):
        C3["r"] @ 2


def test_equality_is_that_of_the_tables():
    other = eq.FiniteGroup(C4.table, ["1", "i", "-1", "-i"], "units")
    assert other == C4 and hash(other) == hash(C4)
    assert len({hash(eq.cyclic(n)) for n in range(1, 9)}) == 8
    assert other["i"] == C4["r"] and {other["i"], C4["r"]} == {C4["r"]}
    assert eq.direct_product(eq.cyclic(2), eq.cyclic(2)) != C4 and C4 != C3
    assert C4 != "C4"
    assert C4["r"] != C3["r"] and C4["r"] != "r"


def test_printing_shows_the_table():
    assert repr(D3) == "D3 (order 6)"
    title, head, rule, *rows = str(D3).splitlines()
    assert title == repr(D3) and set(rule) == {"-"}
    assert head.split("|")[1].split() == list(D3.names)
    for row in rows:
        g, products = row.split("|")
        assert products.split() == [(D3[g.strip()] @ h).name for h in D3]


def test_groups_and_elements_are_copied_and_pickled():
    for twin in (copy.deepcopy(D4), pickle.loads(pickle.dumps(D4))):
        assert twin == D4 and twin.names == D4.names and twin.identity == D4.identity
    assert pickle.loads(pickle.dumps(D4["rs"])) == D4["rs"]


NUMPY = {  # the same with Python's and with numpy's integers
    "cyclic": lambda i: eq.cyclic(i(4)),
    "dihedral": lambda i: eq.dihedral(i(4)),
    "symmetric": lambda i: eq.symmetric(i(3)),
    "permutations": lambda i: eq.permutation_group([[i(1), i(2), i(0)]], max_order=i(9)),
    "element": lambda i: D4[i(5)],
    "index": lambda i: D4.index(i(-1)),
    "power": lambda i: D4["r"] ** i(3),
    "component": lambda i: eq.direct_product(C3, C4).components(i(1)).tolist(),
    "moved": lambda i: eq.Permutation(C3, dim=i(-1))(i(1), torch.arange(6.0).view(2, 3)).tolist(),
    "matrices": lambda i: eq.MatrixAction(C3, eq.rotation_matrices(C3), dim=i(1)).dim,
    "pixels": lambda i: eq.Rotations(D4).on_pixels(i(7)).degree,
    "layer": lambda i: (
        eq.EquivariantLinear(eq.Regular(C3), eq.Regular(C3), i(2), i(5)).weight.shape
    ),
    "head": lambda i: eq.InvariantHead(eq.Rotations(C4), i(2), i(3), i(5)).classify.weight.shape,
    "regular head": lambda i: eq.RegularHead(C4, i(2), i(5), hidden=i(7)).classify.weight.shape,
    "lambda": lambda i: eq.LambdaNet(i(4), i(8)).net[0].weight.shape,
    "seed": lambda i: eq.setup(seed=i(3)).seed,
    "world": lambda i: eq.worlds.Gridworld(i(5)).observation_space.shape,
}


@pytest.mark.parametrize("what", NUMPY)
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8], ids=lambda k: k.__name__)
def test_numpy_integers(what, kind, capsys):
    def of_kind(value):
        return kind(value) if value >= 0 or kind is not np.uint8 else value

    assert NUMPY[what](of_kind) == NUMPY[what](int)
