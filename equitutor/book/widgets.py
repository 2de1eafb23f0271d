"""Sliders over precomputed frames, which need neither a kernel nor the network.

The frames, a range input and a few lines of JavaScript are part of the cell's own HTML output, so the
same output works in Jupyter, in Colab and on the static page. Where scripts do not run, all frames
are shown side by side: that is what the HTML says before the script changes it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from PIL import Image

__all__ = ["FrameSlider", "slider_frames"]

#: Upper limit for the frames of one slider, in bytes: a page should stay light.
LARGEST = 2_000_000

_PAGE = """\
<figure class="equitutor-slider" id="{key}"
  style="margin:1em 0;padding:.5em;background:#fff;color:#111;text-align:center">
<div class="equitutor-controls" hidden
  style="display:flex;gap:.6em;justify-content:center;align-items:center;padding:.3em">
<button type="button" aria-label="Play or pause">&#9654;</button>
<input type="range" min="0" max="{last}" value="{start}" step="1" aria-label="{label}"
  style="width:min(24em,50%)">
<output style="min-width:8em;text-align:left"></output>
</div>
<div class="equitutor-frames" style="display:flex;flex-wrap:wrap;justify-content:center">
{frames}
</div>
{caption}</figure>
<script>
{script}
</script>"""

_FRAME = """\
<figure style="margin:.2em;padding:0;width:{width}px;max-width:{share}">
<img alt="{alt}" src="data:image/png;base64,{data}" style="width:100%">
<figcaption style="font-size:.8em">{label}</figcaption></figure>"""

# The script activates every copy of the slider that is not live yet: an id may occur twice on a page.
_SCRIPT = """\
document.querySelectorAll('[id="KEY"]:not([data-live])').forEach(function (root) {
  root.dataset.live = "yes";
  var controls = root.querySelector(".equitutor-controls");
  var range = controls.querySelector("input"), play = controls.querySelector("button");
  var frames = root.querySelector(".equitutor-frames").children, timer = null;
  function show() {
    for (var i = 0; i < frames.length; i++) frames[i].hidden = i !== +range.value;
    var label = frames[range.value].querySelector("figcaption");
    label.hidden = true;
    controls.querySelector("output").textContent = label.textContent;
    range.setAttribute("aria-valuetext", label.textContent);
  }
  function stop() { clearInterval(timer); timer = null; play.textContent = "\\u25b6"; }
  play.onclick = function () {
    if (timer) return stop();
    play.textContent = "\\u23f8";
    timer = setInterval(function () {
      range.value = (+range.value + 1) % frames.length; show();
    }, 500);
  };
  range.oninput = function () { stop(); show(); };
  for (var i = 0; i < frames.length; i++) frames[i].style.maxWidth = "100%";
  controls.hidden = false;
  show();
});"""


@dataclass(repr=False, eq=False)
class FrameSlider:
    """What :func:`slider_frames` returns; a notebook shows it as the value of a cell."""

    frames: list[bytes]
    labels: list[str]
    label: str
    alt: str
    caption: str
    start: int

    def __repr__(self) -> str:
        return f"FrameSlider({self.label}: {len(self.frames)} frames)"

    def _repr_html_(self) -> str:
        digest = hashlib.sha256(b"".join(self.frames)).hexdigest()[:12]
        key = (
            f"equitutor-{digest}"  # depends on the content only: a second build gives the same page
        )
        frames = "\n".join(
            _FRAME.format(
                width=Image.open(io.BytesIO(png)).width,
                share="46%" if len(self.frames) <= 4 else "30%",
                alt=html.escape(f"{self.alt} {self.label} {text}."),
                data=base64.b64encode(png).decode(),
                label=html.escape(f"{self.label} {text}"),
            )
            for png, text in zip(self.frames, self.labels, strict=True)
        )
        caption = html.escape(self.caption)
        if caption:  # in the figure's own colour, since a page's theme may grey captions
            caption = f'<figcaption style="color:inherit">{caption}</figcaption>\n'
        return _PAGE.format(
            key=key,
            last=len(self.frames) - 1,
            start=self.start,
            label=html.escape(self.label),
            frames=frames,
            caption=caption,
            script=_SCRIPT.replace("KEY", key),
        )


def slider_frames(
    frames: Sequence[Figure | bytes],
    labels: Sequence[object],
    label: str = "frame",
    *,
    alt: str,
    caption: str = "",
    start: int = 0,
    dpi: int = 92,
) -> FrameSlider:
    """Frames under a slider that needs neither a kernel nor the network.

    Parameters
    ----------
    frames : sequence of matplotlib figures or PNG bytes, all of one size
        Figures are drawn at ``dpi`` in 64 colours, which keeps a frame at about 10 kB.
    labels : sequence, one per frame
        What the slider says at this frame, e.g. the angle.
    label : str
        What the slider changes, e.g. "angle".
    alt : str
        What the frames show, for those who cannot see them; the frame's label is added to it.
    caption : str
        Text under the slider.
    start : int
        Index of the frame shown first.
    dpi : int
        Resolution at which figures are drawn.

    Raises
    ------
    ValueError
        If there are no frames, or not one label per frame; if the alt text is empty; if a frame is
        neither a figure nor a PNG; if the frames differ in size, or take more than 2 MB.
    """
    if len(frames) == 0 or len(frames) != len(labels):
        raise ValueError(
            f"a slider needs frames and one label for each, got {len(frames)} frames and "
            f"{len(labels)} labels"
        )
    if not 0 <= start < len(frames):
        raise ValueError(f"start={start} is not a frame: expected 0 to {len(frames) - 1}")
    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the frames show")
    pngs = [png_bytes(frame, dpi) for frame in frames]
    sizes = {Image.open(io.BytesIO(png)).size for png in pngs}
    if len(sizes) > 1:
        raise ValueError(
            f"the frames differ in size, {sorted(sizes)}, and would jump: draw them in one size"
        )
    total = sum(map(len, pngs))
    if total > LARGEST:
        raise ValueError(
            f"{len(pngs)} frames of {total / len(pngs) / 1000:.0f} kB make a heavy page, "
            f"{total / 1e6:.1f} MB of at most {LARGEST / 1e6:.0f}: use fewer frames or a lower dpi"
        )
    return FrameSlider(pngs, [str(text) for text in labels], label, alt, caption, start)


def png_bytes(frame: Figure | bytes, dpi: int) -> bytes:
    """A figure as a small PNG; the bytes of a PNG as they are."""
    if isinstance(frame, bytes) and frame.startswith(b"\x89PNG"):
        return frame
    if not isinstance(frame, Figure):
        kind = "bytes of another kind" if isinstance(frame, bytes) else f"a {type(frame).__name__}"
        raise ValueError(
            f"frames must be matplotlib figures or the bytes of PNG images, got {kind}"
        )
    drawn, small = io.BytesIO(), io.BytesIO()
    frame.savefig(drawn, format="png", dpi=dpi, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(64).save(small, format="PNG", optimize=True)
    return small.getvalue()
