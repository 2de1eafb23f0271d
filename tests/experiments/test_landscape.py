"""The landscape: its cells, what looks at the thumbnails, and what the weightings run."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import equitutor as eq
from equitutor.book import cost_map
from equitutor.experiments import landscape
from equitutor.experiments.landscape import THUMBNAIL, OfThumbnail, Template
from equitutor.images.views import ViewsAction, ViewSet, on_views
from equitutor.store.results import Record

GROUPS = {"c4": eq.cyclic(4), "d4": eq.dihedral(4)}
EXACT = tuple(m for m in landscape.METHODS if m not in ("none", "stochastic 1", "stochastic 2"))


def made_up(group: str, count: int = 20, channels: int = 6) -> ViewSet:
    """Random images, what a "network" says of their views, and their thumbnails behind that."""
    turns = eq.Rotations(GROUPS[group])
    pictures = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    network = nn.Linear(3 * 32 * 32, channels + 5)
    with torch.no_grad():
        said = network(turns.views(pictures.float() / 255).flatten(1))
    said = said.unflatten(0, (len(turns.group), -1)).transpose(0, 1).contiguous()
    views = ViewSet(said, torch.randint(0, 3, (count,)), ("a", "b", "c"), "made up", channels)
    return landscape.with_thumbnails(views, pictures, turns)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def model(method: str, group: str, views: ViewSet):
    g = eq.cyclic(1) if method == "none" else GROUPS[group]
    base = on_views(views, nn.Linear(views.channels, 3), GROUPS[group])
    return landscape.model_of(method, base, g, views.channels).eval()


@pytest.mark.parametrize("group", GROUPS)
def test_moving_the_views_moves_the_thumbnails_with_them(group):
    """The row e of the moved views ends with the thumbnail of the moved image."""
    turns = eq.Rotations(GROUPS[group])
    pictures = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    plain = ViewSet(torch.zeros(4, len(turns.group), 1), torch.zeros(4), ("a",), "", 1)
    views = landscape.with_thumbnails(plain, pictures, turns).images
    for g in turns.group:
        moved = landscape.with_thumbnails(plain, turns(g, pictures), turns).images
        torch.testing.assert_close(ViewsAction(turns.group)(g, views), moved, atol=1e-5, rtol=0)


@pytest.mark.parametrize("group", GROUPS)
def test_the_template_moves_with_the_image(group):
    turns = eq.Rotations(GROUPS[group])
    x = torch.randn(3, 3, 9, 9, dtype=torch.float64)
    slanted = Template(turns, 9).double()
    assert eq.equivariance_error(slanted, x, turns, eq.Regular(turns.group)) < 1e-12
    bright_above = torch.linspace(1, -1, 9)[:, None].expand(1, 3, 9, 9)
    scores = Template(turns, 9)(bright_above)
    assert scores.argmax() == turns.group.identity.index
    level = Template(turns, 9, slant=0)(bright_above)
    assert (level[0, 0] == level.max()).all()


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("method", landscape.METHODS)
def test_all_but_the_drawn_ones_are_exact_and_the_network_is_not(method, group):
    views = made_up(group)
    error = eq.equivariance_error(
        model(method, group, views), views.images, ViewsAction(GROUPS[group]), None
    )
    assert error < 1e-5 if method in EXACT else error > 1e-3


def passes(method: str, group: str) -> float:
    views = made_up(group)
    wrapped, seen = model(method, group, views), []
    wrapped(views.images)  # the first time, laws are checked
    wrapped.model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    wrapped(views.images)
    return sum(seen) / len(views)


def test_how_many_views_are_run():
    for group, n in (("c4", 4), ("d4", 8)):
        every = {m: passes(m, group) for m in landscape.METHODS}
        assert [every.pop(m) for m in ("none", "canonical", "template", "stochastic 1")] == [1] * 4
        assert every.pop("stochastic 2") == 2
        assert every.pop("frame") == n / 2
        assert set(every.values()) == {n}


def test_the_cells():
    config = replace(landscape.Config(), groups=("c4", "d4"), seeds=(0, 1))
    cells = config.cells()
    assert len(cells) == 2 * (1 + 2 * (len(landscape.METHODS) - 1))
    assert {c["group"] for c in cells if c["method"] == "none"} == {"none"}
    assert "lambda_lr" in config.settings({**cells[0], "method": "canonical"})
    assert "lambda_lr" not in config.settings({**cells[0], "method": "template"})


def test_a_chooser_of_thumbnails_sees_nothing_else():
    views = made_up("c4").images
    chooser = OfThumbnail(eq.OrientationNet(eq.Rotations(GROUPS["c4"])))
    changed = views.clone()
    changed[..., : -3 * THUMBNAIL**2] = 0
    changed[:, 1:] = 0
    assert torch.equal(chooser(views), chooser(changed))
    frame = OfThumbnail(Template(eq.Rotations(GROUPS["c4"]), THUMBNAIL, slant=0), frame=True)
    assert (frame(views).sum(1) == 2).all()


def test_the_picture_of_accuracy_beside_cost():
    cell = {"dataset": "digits", "backbone": "efficientnet_lite0", "group": "c4", "seed": 0}
    metrics = {"passes": 4.0, "accuracy": 80.0}
    records = [Record("landscape", {**cell, "method": m}, metrics) for m in landscape.METHODS[1:]]
    fig = cost_map.figure(records)
    (ax,) = fig.axes
    drawn = {text.get_text() for text in ax.texts}
    assert drawn == {str(n) for n in range(2, len(landscape.METHODS) + 1)}
    more = [replace(r, cell={**r.cell, "dataset": "cifar10", "group": "d4"}) for r in records]
    for ax, group in zip(cost_map.figure(records + more).axes, ("c4", "d4"), strict=True):
        marks = [text.get_text() for text in ax.get_legend().get_texts()]
        assert marks[len(landscape.METHODS) :] == [group]
    with pytest.raises(ValueError, match="no records"):
        cost_map.figure([])
