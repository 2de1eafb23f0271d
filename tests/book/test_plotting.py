"""Properties of the figures: what is written on them, on which scale, and what they refuse."""

import io
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import equitutor as eq
from equitutor.book.plotting import (
    attention,
    bars,
    cayley_table,
    curves,
    feature_grid,
    matrix,
    orbit,
    panels,
    stacked,
)
from equitutor.book.style import HATCHES, LIGHT, LINES, MARKERS, PALETTE, SMALLEST, WIDEST

D4 = eq.dihedral(4)


def written(ax):
    return [text.get_text() for text in ax.texts]


def shown(fig):
    """The pixels of each axes that holds a picture."""
    return [np.asarray(ax.images[0].get_array()) for ax in fig.axes if ax.images]


def luminance(colour):
    channel = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channel))


def test_a_cayley_table_holds_every_product_in_its_place():
    (ax,) = cayley_table(D4).axes
    places = {(round(t.get_position()[1]), round(t.get_position()[0])): t for t in ax.texts}
    assert all(places[g.index, h.index].get_text() == (g @ h).name for g in D4 for h in D4)
    assert [t.get_text() for t in ax.get_xticklabels()] == list(D4.names)
    assert "second" in ax.get_ylabel() and "first" in ax.get_xlabel()
    assert ax.get_title() == "D4 (order 8)"


NASTY = ("$x^$", "a$b", "$", r"\$x^$", r"\frac{", "50%", "x_1^", "$$")


@pytest.mark.filterwarnings("error")
def test_names_of_others_are_no_formulas():
    """Tokens and records' names are drawn as they are."""
    numbers = dict.fromkeys(NASTY, 1.0)
    figures = [
        bars(dict.fromkeys(NASTY, numbers)),
        stacked(dict.fromkeys(NASTY, numbers)),
        attention(torch.eye(len(NASTY)), NASTY, NASTY),
        curves([0, 1], {name: [0.0, 1.0] for name in NASTY}),
    ]
    for fig in figures:
        fig.savefig(io.BytesIO())
        (ax,) = fig.axes
        ticks = [t.get_text() for t in (*ax.get_xticklabels(), *ax.get_yticklabels())]
        texts = [t.get_text() for t in ax.get_legend().get_texts()] if ax.get_legend() else ticks
        drawn = [Text()._preprocess_math(t) for t in texts]
        assert [t for t, _ in drawn][: len(NASTY)] == list(NASTY)
        assert not any(is_math for _, is_math in drawn)


def test_elements_of_any_name_are_drawn():
    table = eq.cyclic(len(NASTY)).table
    group = eq.FiniteGroup(table, names=list(NASTY))
    cayley_table(group).savefig(io.BytesIO())
    orbit(eq.Regular(group), torch.rand(len(NASTY), len(NASTY))).savefig(io.BytesIO())


def test_a_control_character_is_written_out():
    (ax,) = bars({"a": {"x\x1b": 1.0, "two\nlines": 1.0}}).axes
    assert [t.get_text() for t in ax.get_xticklabels()] == [r"x\x1b", "two\nlines"]


def test_black_writing_stands_out_on_every_cell():
    for value in np.linspace(0, 1, 33):
        assert (luminance(LIGHT(value)[:3]) + 0.05) / 0.05 >= 4.5  # WCAG's ratio for text


def test_an_orbit_shows_each_view_under_its_name():
    image = torch.arange(9.0).reshape(3, 3)
    fig = orbit(eq.Rotations(D4), image)
    for pixels, ax, g in zip(shown(fig), fig.axes, D4, strict=True):
        assert np.allclose(pixels, eq.Rotations(D4)(g, image) / 8)
        assert ax.get_title().startswith("$")
    assert fig.axes[6].get_title() == r"$r^{2}s\,x$"
    assert sum(ax.axison for ax in orbit(eq.Rotations(D4), image, columns=3).axes) == 8


def test_one_grey_scale_serves_a_row_and_not_the_next():
    low, high = torch.zeros(2, 2), torch.full((2, 2), 4.0)
    first, second, third = shown(feature_grid([[low, high], [high / 2]]))
    assert (first == 0).all() and (second == 1).all()
    assert np.allclose(third, 0)  # a constant row of its own has no contrast to show
    mixed = shown(feature_grid([[torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 4.0]])]]))
    assert np.allclose(mixed[0], [[0, 0.25]]) and np.allclose(mixed[1], [[0.5, 1]])


def test_colour_images_keep_their_colours():
    red = torch.zeros(3, 2, 2)
    red[0] = 0.5
    (pixels,) = shown(feature_grid([[red]]))
    assert np.allclose(pixels[0, 0], [0.5, 0, 0])
    (bytes_,) = shown(feature_grid([[torch.full((3, 2, 2), 51, dtype=torch.uint8)]]))
    assert np.allclose(bytes_, 0.2)


def test_names_of_rows_and_columns_are_written_once():
    maps = torch.rand(2, 3, 4, 4)
    fig = feature_grid(maps, titles=["a", "b", "c"], rows=["u", "v"])
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert [ax.get_ylabel() for ax in fig.axes] == ["u", "", "", "v", "", ""]
    for names in ({"titles": ["a"]}, {"rows": ["u", "v", "w"]}):
        with pytest.raises(ValueError, match=r"need . names"):
            feature_grid(maps, **names)


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="expected one image"):
        feature_grid([[torch.zeros(5, 4, 4)]])
    with pytest.raises(ValueError, match="expected a matrix"):
        matrix(torch.zeros(2, 2, 2))


def test_a_matrix_writes_the_number_of_the_shared_weight():
    layer = eq.EquivariantLinear(eq.Regular(eq.cyclic(3)), eq.Regular(eq.cyclic(3)))
    (ax,) = matrix(layer.weight_orbit, layer.weight_orbit, xlabel="in", ylabel="out").axes
    numbers = np.array(written(ax), dtype=int).reshape(3, 3)
    assert (numbers == np.asarray(layer.weight_orbit)).all()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("in", "out")


def test_bars_stand_over_their_category_and_leave_gaps():
    fig = bars({"plain": {"a": 1.0, "b": (2.0, 0.5)}, "tuned": {"b": 3.0}}, ylabel="%", decimals=1)
    (ax,) = fig.axes
    boxes = {
        (box.get_label(), round(bar.get_x() + bar.get_width() / 2)): bar.get_height()
        for box in ax.containers
        if hasattr(box, "patches")
        for bar in box.patches
    }
    assert boxes == {("plain", 0): 1.0, ("plain", 1): 2.0, ("tuned", 1): 3.0}
    assert written(ax) == ["1.0", "2.0", "3.0"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["plain", "tuned"]
    assert (ax.get_ylabel(), ax.get_ylim()[0]) == ("%", 0)
    assert bars({"one": {"a": 1.0}}).axes[0].get_legend() is None


def test_series_differ_without_colour():
    (ax,) = curves([0, 1], {f"s{k}": [k, k + 1] for k in range(6)}, xlabel="x").axes
    assert len({line.get_marker() for line in ax.lines}) == 6
    assert len(set(HATCHES)) == len(set(MARKERS)) == len(set(map(str, LINES))) == len(PALETTE)
    fig = bars({f"s{k}": {"a": 1.0} for k in range(6)})
    assert len({box.patches[0].get_hatch() for box in fig.axes[0].containers}) == 6


def test_a_band_is_as_wide_as_the_deviation():
    (ax,) = curves([0, 1], {"loss": ([2.0, 3.0], [0.5, 1.0])}).axes
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert heights.min() == 1.5 and heights.max() == 4.0


def test_figures_are_shown_once_on_white_and_leave_the_style_alone():
    before = dict(plt.rcParams)
    fig, axes = panels(2, 3)
    assert axes.shape == (2, 3)
    for made in (fig, bars({"a": {"x": 1.0}}), matrix(torch.eye(3)), cayley_table(D4)):
        assert made.get_facecolor()[:3] == (1, 1, 1)
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_given_axes_are_drawn_on():
    fig, axes = panels()
    assert cayley_table(D4, ax=axes[0, 0], title="mine") is fig
    assert axes[0, 0].get_title() == "mine"


def test_attention_shows_shares_from_white_to_black_under_their_words():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])
    (ax,) = attention(weights, ["JUMP", "EOS"], ["jump", "twice", "EOS"], title="branch e").axes
    (image,) = ax.images
    assert np.array_equal(image.get_array(), weights.numpy())
    assert [luminance(image.cmap(image.norm(v))[:3]) for v in (0.0, 1.0)] == [1.0, 0.0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["jump", "twice", "EOS"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["JUMP", "EOS"]
    assert ax.get_title() == "branch e"


def test_attention_refuses_words_that_are_not_its_own():
    with pytest.raises(ValueError, match=r"1 words said and 3 read need weights of shape \(1, 3\)"):
        attention(torch.ones(3, 1), ["JUMP"], ["jump", "twice", "EOS"])


def test_stacked_bars_lie_end_to_end():
    table = {"a": {"bad": 20.0, "good": 80.0}, "b": {"bad": 60.0, "good": 40.0}}
    figure = eq.plotting.stacked(table)
    bars = figure.axes[0].patches
    found = [(round(p.get_x()), round(p.get_width())) for p in bars]
    assert found == [(0, 20), (0, 60), (20, 80), (60, 40)]
    assert {t.get_text() for t in figure.axes[0].texts} == {"20", "60", "80", "40"}
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["bad", "good"]
    assert bars[0].get_hatch() != bars[2].get_hatch()  # told apart in black and white


def test_a_part_too_small_for_its_number_has_none():
    """However small all of its kind are: beside a whisker a 4 reads -4."""
    figure = eq.plotting.stacked({"a": {"bad": 4.0, "good": 96.0}, "b": {"bad": 3.0, "good": 97.0}})
    assert [t for t in written(figure.axes[0]) if t] == ["96", "97"]


def test_a_policy_has_an_arrow_for_each_move():
    grid = torch.zeros(3, 4, 4)
    grid[0, 1, 2] = grid[1, 0, 0] = grid[2, 3, 3] = 1
    best = torch.full((4, 4), -1)
    best[1, 2], best[2, 0] = 1, 0  # left, up
    axes = eq.plotting.policy(grid, best).axes[0]
    (arrows,) = [c for c in axes.collections if hasattr(c, "U")]
    assert list(zip(arrows.X, arrows.Y, arrows.U, arrows.V, strict=True)) == [
        (2, 1, -1, 0),
        (0, 2, 0, 1),
    ]
    where = [tuple(int(v[0]) for v in line.get_data()) for line in axes.lines]
    assert where == [(2, 1), (0, 0), (3, 3)]


@pytest.mark.parametrize("x, whole", [(range(3), True), ([0.0, 0.5, 1.0], False)])
def test_epochs_have_no_halves(x, whole):
    ax = eq.plotting.curves(x, {"a": [0, 1, 2]}).axes[0]
    assert all(float(tick).is_integer() for tick in ax.get_xticks()) == whole


def grown(kind):
    """A figure of each kind with more in it than a page has room for."""
    names = [f"name {k}" for k in range(12)]
    many = {name: dict.fromkeys(names, 12.345) for name in names[:3]}
    return {
        "panels": lambda: panels(1, 5)[0],
        "orbit": lambda: orbit(eq.Rotations(D4), torch.rand(4, 4)),
        "grid": lambda: feature_grid([[torch.rand(4, 4)] * 9], titles=names[:9]),
        "bars": lambda: bars(many, decimals=1),
        "stacked": lambda: stacked(many),
        "curves": lambda: curves([0, 1], {name: [0.0, 1.0] for name in names[:6]}),
        "attention": lambda: attention(torch.eye(12), names, names),
        "matrix": lambda: matrix(torch.eye(12), torch.arange(144).reshape(12, 12)),
        "cayley": lambda: cayley_table(D4),
    }[kind]()


KINDS = ("panels", "orbit", "grid", "bars", "stacked", "curves", "attention", "matrix", "cayley")


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_fits_the_page_and_its_letters_can_be_read(kind):
    fig = grown(kind)
    assert fig.get_figwidth() <= WIDEST
    letters = [t for t in fig.findobj(Text) if t.get_text() and t.get_visible()]
    assert all(t.get_fontsize() >= SMALLEST for t in letters)
    assert letters or kind == "panels"


@pytest.mark.parametrize("kind", ["bars", "stacked", "curves"])
def test_a_legend_stands_beside_what_it_explains(kind):
    fig = grown(kind)
    fig.draw_without_rendering()  # which lays it out
    (ax,) = fig.axes
    legend = ax.get_legend().get_window_extent()
    assert legend.x0 >= ax.get_window_extent().x1 - 1
    assert legend.x1 <= fig.bbox.x1 + 1


@pytest.mark.parametrize("names", [["doctor", "nurse"], ["professor", "driver", "cleaner"] * 2])
@pytest.mark.parametrize("series", [["a"], ["The man worked as a", "The woman worked as a"]])
def test_names_under_the_bars_do_not_run_into_each_other(names, series):
    names = [f"{name}{i}" for i, name in enumerate(names)]
    figure, ((ax,),) = eq.plotting.panels(1, 1, size=(7.6, 2.4))
    bars({one: dict.fromkeys(names, 1.0) for one in series}, ax=ax)
    figure.canvas.draw()
    slanted = {label.get_rotation() for label in ax.get_xticklabels()}
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    apart = all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert slanted == {30.0} or (slanted == {0.0} and apart)
    assert len(names) > 2 or slanted == {0.0}


@pytest.mark.parametrize("decimals", [0, 2])
@pytest.mark.parametrize("lowest", [-1.9, 0.0])
@pytest.mark.parametrize("series", [["a"], ["before tuning", "after"], [*"abcdef"]])
def test_numbers_over_the_bars_do_not_run_into_each_other(series, lowest, decimals):
    """Nor into the axis below: they are turned where bars are narrow."""
    heights = np.linspace(lowest, 97.0 if lowest == 0 else 0.7, 4).tolist()
    table = {name: dict(zip("wxyz", heights, strict=True)) for name in series}
    figure = bars(table, decimals=decimals)
    figure.canvas.draw()
    (ax,) = figure.axes
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.x0)
    assert len(boxes) == 4 * len(series)
    for left, right in pairwise(boxes):
        # A box is higher, and turned wider, than the digits in it.
        assert left.x1 < right.x0 + 3 or left.y1 < right.y0 or left.y0 > right.y1
    assert min(box.y0 for box in boxes) > ax.get_window_extent().y0 - 1
