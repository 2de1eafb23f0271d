"""Image files, whatever their mode, as the 8-bit RGB pictures that a viewer shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..store.files import DataError

__all__ = ["EXTENSIONS", "pixels", "read_rgb"]

# GIF is left out on purpose: Hymenoptera's only .gif is a "not found" placeholder, not an insect.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
# No others, whatever a file is called: Pillow would have Ghostscript run what is PostScript.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")

# Tags of TIFF, and a value of each of the last two
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2


def read_rgb(path: Path) -> Image.Image:
    """Read an image file as the 8-bit RGB picture that a viewer shows.

    It is turned upright as its EXIF orientation says; an animation gives its first frame.
    Grey of 16 bits is scaled from 0..65535, grey in floating point from 0 (black) to 1 (white).
    What is transparent lies on white. Colour profiles are not applied.

    Raises
    ------
    DataError
        If the file is damaged, has another format or more pixels than PIL.Image.MAX_IMAGE_PIXELS,
        or does not say what is white: floating point outside 0 to 1, and whole numbers of
        32 bits or with a sign. The message names the file, its mode and what to do.
    """
    mode = ""
    try:
        # Not by its path: what Pillow maps into memory then, some versions turn wrongly.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            mode = f"mode {image.mode}: "
            limit = Image.MAX_IMAGE_PIXELS  # above it Pillow warns; it raises above its double
            if limit and image.width * image.height > limit:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            return _rgb(image, path)
    except UnidentifiedImageError:
        reason = f"none of {', '.join(FORMATS)} that Pillow reads; save it as an 8-bit PNG"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"{error}; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        reason = str(error) or type(error).__name__
    raise DataError(f"{path} ({mode}{reason})")


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    tags = getattr(image, "tag_v2", {})  # only TIFF has them
    if (image.mode == "I" and tags) or SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError("no value of its whole numbers is white; save it with 16 bits, no sign")
    if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        bits = path.read_bytes()[24]  # where PNG's header has them
        if bits == 16:
            raise ValueError("16 bits and a transparent colour; save it with 8 bits or with alpha")
        image.info["transparency"] *= 255 // (2**bits - 1)  # as Pillow scales the pixels
    white = 1 if image.mode == "F" else 2 ** tags.get(BITS, (16,))[0] - 1
    image.load()  # turns TIFF upright, and some versions of Pillow would then turn it again
    if not tags:
        ImageOps.exif_transpose(image, in_place=True)
    picture = image
    if picture.mode == "F" or picture.mode.startswith("I"):
        return _scale_grey(picture, white, inverted=tags.get(PHOTOMETRIC) == WHITE_IS_ZERO)
    if picture.mode == "La":
        picture = picture.convert("LA")  # Pillow knows no other way out of this mode
    if picture.mode.endswith(("A", "a")) or "transparency" in picture.info:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def pixels(path: Path) -> int:
    """The number of pixels of an image file; 0 if it cannot be read, of which :func:`read_rgb` tells."""
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # as above
        return 0


def _scale_grey(image: Image.Image, white: int, inverted: bool) -> Image.Image:
    """Scale 0 to ``white`` to 8 bits, or the other way round; PNG's transparent value is white."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # true of NaN as well
        raise ValueError(
            f"values from {low:.7g} to {high:.7g}; scale them so that 0 is black and {white} white"
        )
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    grey = 255 - grey if inverted else grey
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey).convert("RGB")
