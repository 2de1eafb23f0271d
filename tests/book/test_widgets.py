"""The slider: what its HTML says, that nothing of it comes from elsewhere, what it refuses."""

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

import equitutor as eq
from equitutor.book.widgets import slider_frames


def png(size=(8, 6), shade=0):
    data = io.BytesIO()
    Image.new("L", size, shade).save(data, "PNG")
    return data.getvalue()


FRAMES = [png(shade=40 * k) for k in range(5)]


def slider(frames=FRAMES, labels=None, **options):
    labels = [f"{90 * k}°" for k in range(len(frames))] if labels is None else labels
    return slider_frames(frames, labels, "angle", **{"alt": "A digit.", **options})


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_every_frame_is_in_the_page_with_its_own_alt_text():
    tags = Tags(slider()._repr_html_())
    assert tags.open == []
    images = tags.all("img")
    assert [i["alt"] for i in images] == [f"A digit. angle {90 * k}°." for k in range(5)]
    assert [base64.b64decode(i["src"].split(",")[1]) for i in images] == FRAMES


def test_controls_have_names_and_the_range_covers_the_frames():
    tags = Tags(slider(start=2, caption="Turn it.")._repr_html_())
    (control,) = tags.all("input")
    assert (control["min"], control["max"], control["value"]) == ("0", "4", "2")
    assert control["aria-label"] == "angle"
    assert all(button["aria-label"] for button in tags.all("button"))
    assert "Turn it." in slider(caption="Turn it.")._repr_html_()


def test_without_scripts_all_frames_show_and_the_dead_controls_do_not():
    static = slider()._repr_html_().split("<script>")[0]
    tags = Tags(static)
    hidden = [tag for tag, attributes in tags.found if "hidden" in attributes]
    assert hidden == ["div"] and 'controls" hidden' in static


def test_nothing_is_fetched():
    text = slider()._repr_html_()
    assert not re.search(r"https?:|<link|<iframe|src=\"(?!data:)|import ", text)


def test_the_page_is_the_same_each_time_and_another_for_other_frames():
    assert slider()._repr_html_() == slider()._repr_html_()
    key = re.search('id="(equitutor-[0-9a-f]+)"', slider()._repr_html_())[1]
    assert key not in slider(FRAMES[::-1])._repr_html_()


def test_texts_are_escaped():
    text = slider(alt='a "b" <c>', caption="1 < 2 & 3", labels=["<i>"] * 5)._repr_html_()
    assert "<i>" not in text and "<c>" not in text
    assert "1 &lt; 2 &amp; 3" in text
    assert Tags(text).all("img")[0]["alt"] == 'a "b" <c> angle <i>.'


def test_figures_become_small_pngs_of_one_size():
    figures = []
    for k in range(3):
        fig, axes = eq.plotting.panels(size=(2, 2))
        axes[0, 0].plot([0, k])
        figures.append(fig)
    made = slider(figures, dpi=50)
    assert {Image.open(io.BytesIO(f)).size for f in made.frames} == {(100, 100)}
    assert max(map(len, made.frames)) < 20_000
    assert repr(made) == "FrameSlider(angle: 3 frames)"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": []}, "needs frames"),
        ({"labels": ["one"]}, "5 frames and 1 labels"),
        ({"start": 5}, "start=5 is not a frame"),
        ({"alt": " "}, "say in a sentence"),
        ({"frames": [png(), png((9, 6))]}, "differ in size"),
        ({"frames": [b"GIF89a"]}, "bytes of PNG"),
        ({"frames": ["picture.png"]}, "got a str"),
        ({"frames": [png() + b"x" * 3_000_000]}, "heavy page"),
    ],
)
def test_what_cannot_be_shown_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        slider(**options)
