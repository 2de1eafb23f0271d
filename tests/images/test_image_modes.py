"""Image files of every mode come out as a viewer shows them, or are refused by name."""

import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from equitutor.images import data, imageset
from equitutor.images.reading import read_rgb
from equitutor.store.files import DataError

RAMP = np.arange(256, dtype=np.uint8).reshape(4, 64)
ORIENTATION, PHOTOMETRIC = 0x0112, 262


def in_mode(mode):
    """The ramp as a picture of some mode, and the grey values that it should be read as."""
    sixteen_bits = RAMP.astype(np.uint16) * 257
    grey = Image.fromarray(RAMP)
    if mode == "1":
        return grey.convert("1", dither=Image.Dither.NONE), np.where(RAMP > 127, 255, 0)
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32) / 255), RAMP
    if mode in ("I", "I;16", "I;16B"):
        kind = {"I": np.int32, "I;16": "<u2", "I;16B": ">u2"}[mode]
        return Image.fromarray(sixteen_bits.astype(kind)), RAMP
    if mode == "LAB":  # the way there is by RGB
        grey = grey.convert("RGB")
    return grey.convert(mode), RAMP


def png(rows, colour, bits, key=b""):
    """PNG's bytes, of kinds that Pillow does not write; rows are (H, W x samples) of whole bytes."""
    height, width = len(rows), len(rows[0]) * 8 // (bits * {0: 1, 2: 3, 4: 2, 6: 4}[colour])

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + (kind + content)
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + (chunk(b"tRNS", key) if key else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


def tiff(rows, width, **tags):
    """TIFF's bytes, of kinds that Pillow does not write; more tags by number, as t262=0."""
    pixels = b"".join(rows)
    found = {256: width, 257: len(rows), 259: 1, PHOTOMETRIC: 1, 277: 1, 279: len(pixels)}
    found |= {int(tag[1:]): value for tag, value in tags.items()} | {273: 0}
    found[273] = 14 + 12 * len(found)
    entries = [struct.pack("<HHII", tag, 4, 1, found[tag]) for tag in sorted(found)]
    count = struct.pack("<H", len(entries))
    return b"II*\0\x08\0\0\0" + count + b"".join(entries) + bytes(4) + pixels


def sixteen(*values):
    return struct.pack(f">{len(values)}H", *values)


@pytest.fixture
def reads(tmp_path):
    """A function that gives the pixels which a file of these bytes is read as."""

    def read(content):
        path = tmp_path / "picture.png"  # the name decides nothing
        path.write_bytes(content)
        return np.asarray(read_rgb(path)).tolist()

    return read


# Every mode in every format


@pytest.mark.parametrize(
    ("mode", "endings"),
    [
        ("1", "png bmp ppm tif jpg"),
        ("L", "png bmp ppm tif webp jpg"),
        ("LA", "png tif webp"),
        ("P", "png bmp tif"),
        ("PA", "tif"),
        ("RGB", "png bmp ppm tif webp jpg"),
        ("RGBA", "png bmp ppm tif webp"),
        ("RGBX", "tif"),
        ("CMYK", "tif jpg"),
        ("YCbCr", "jpg"),
        ("LAB", "tif"),
        ("I", "ppm"),
        ("I;16", "png tif"),
        ("I;16B", "tif"),
        ("F", "tif"),
    ],
)
def test_a_ramp_is_the_same_in_every_mode(tmp_path, mode, endings):
    picture, expected = in_mode(mode)
    for ending in endings.split():
        path = tmp_path / f"ramp.{ending}"
        options = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(ending, {})
        picture.save(path, **options)
        found = np.asarray(read_rgb(path)).astype(int)
        assert found.shape == (4, 64, 3)
        assert np.ptp(found, axis=2).max() <= 2 * (mode == "LAB"), "grey"
        error = np.abs(found - expected[..., None]).max()
        assert error <= {"jpg": 2, "tif": 2 * (mode == "LAB")}.get(ending, 0), (ending, error)


@pytest.mark.parametrize("ending", ["tif", "jpg"])
@pytest.mark.parametrize(
    ("ink", "expected"),
    [
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 127), (0, 128, 128)),
        ((0, 0, 0, 0), (255,) * 3),
    ],
)
def test_colours_of_ink_are_the_known_ones(tmp_path, ending, ink, expected):
    Image.new("CMYK", (8, 8), ink).save(tmp_path / f"x.{ending}")
    found = np.asarray(read_rgb(tmp_path / f"x.{ending}")).astype(int)
    assert np.abs(found - expected).max() <= 2 * (ending == "jpg")


@pytest.mark.parametrize(
    ("lab", "expected"),
    [
        ((54.3, 80.8, 69.9), (255, 0, 0)),  # the primaries of sRGB, under D50
        ((29.6, 68.3, -112), (0, 0, 255)),
        ((100, 0, 0), (255, 255, 255)),
    ],
)
def test_colours_of_lab_are_the_known_ones(reads, lab, expected):
    lightness, a, b = lab
    row = struct.pack("<Bbb", round(lightness * 2.55), round(a), round(b))
    found = np.array(reads(tiff([row], 1, t258=8, t262=8, t277=3)))
    assert np.abs(found - expected).max() <= 25  # so much a rounded value moves what is near black


def test_the_files_that_a_phone_writes_as_jpg(tmp_path):
    second = Image.new("L", (64, 4))
    Image.fromarray(RAMP).save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[second])
    assert np.asarray(read_rgb(tmp_path / "x.jpg")).mean() == pytest.approx(127.5, abs=1)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_an_animation_is_its_first_frame(tmp_path, ending):
    black, white = (Image.new("RGB", (8, 8), colour) for colour in ("black", "white"))
    white.save(tmp_path / f"x.{ending}", save_all=True, append_images=[black])
    assert np.asarray(read_rgb(tmp_path / f"x.{ending}")).min() == 255


# More than 8 bits


def test_16_bits_are_rounded_to_8(reads):
    row = sixteen(0, 128, 129, 257, 4863, 65535)
    grey = reads(png([row], colour=0, bits=16))
    assert [pixel[0] for pixel in grey[0]] == [0, 0, 1, 1, 19, 255]


def test_16_bits_of_several_samples(reads):
    colour = reads(png([sixteen(0, 128 * 257, 65535)], colour=2, bits=16))
    assert colour == [[[0, 128, 255]]]
    grey_alpha = reads(png([sixteen(0, 0, 0, 65535, 51 * 257, 65535)], colour=4, bits=16))
    assert [pixel[0] for pixel in grey_alpha[0]] == [255, 0, 51]
    colour_alpha = reads(png([sixteen(0, 0, 0, 0, 65535, 0, 0, 65535)], colour=6, bits=16))
    assert colour_alpha == [[[255, 255, 255], [255, 0, 0]]]
    rows = [struct.pack("<3H", 0, 128 * 257, 65535)]
    assert reads(tiff(rows, 1, t258=16, t262=2, t277=3)) == [[[0, 128, 255]]]


def test_12_bits_are_scaled_from_their_own_range(reads):
    found = reads(tiff([bytes.fromhex("000800fff010")], 4, t258=12))  # 0, 2048, 4095, 16
    assert [pixel[0] for pixel in found[0]] == [0, 128, 255, 1]


@pytest.mark.parametrize("most", [1, 100, 255, 1000, 65535])
def test_pgm_is_scaled_from_its_own_range(reads, most):
    text = f"P2\n3 1\n{most}\n0 {most // 2} {most}\n".encode()
    black, grey, white = (pixel[0] for pixel in reads(text)[0])
    assert (black, white) == (0, 255)
    assert grey == pytest.approx(255 * (most // 2) / most, abs=0.51)


def test_16_bits_and_8_bits_are_one_picture_in_an_image_folder(tmp_path):
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))
    for part in ("train", "test"):
        for kind in ("a", "b"):
            folder = tmp_path / "own" / part / kind
            folder.mkdir(parents=True)
            Image.fromarray((ramp * 255).astype(np.uint8)).save(folder / "8.png")
            Image.fromarray((ramp * 65535).astype(np.uint16)).save(folder / "16.png")
            Image.fromarray(ramp.astype(np.float32)).save(folder / "float.tif")
    images = data.image_folder(tmp_path / "own", size=32)["train"].images[:3].float()
    assert (images - images[1]).abs().max() <= 1
    assert all(len(image[0].unique()) == 32 for image in images)


# Transparency


def test_what_is_transparent_lies_on_white(tmp_path):
    black = Image.new("L", (3, 1), 0)
    black.putalpha(Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8)))
    for mode, ending in [
        *(("LA", e) for e in ("png", "tif", "webp")),
        *(("RGBA", e) for e in ("png", "tif", "webp")),
        ("PA", "tif"),
    ]:
        picture = black.convert(mode)
        picture.putalpha(black.getchannel("A"))
        options = {"lossless": True, "exact": True} if ending == "webp" else {}
        picture.save(tmp_path / f"x.{ending}", **options)
        found = np.asarray(read_rgb(tmp_path / f"x.{ending}"))
        assert found[0].tolist() == [[255] * 3, [204] * 3, [0] * 3], (mode, ending)


def test_palettes_with_transparent_entries(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    for transparency, expected in [
        (0, [[255, 255, 255], [255, 0, 0], [0, 0, 255]]),
        (b"\xff\x00\x33", [[0, 0, 0], [255, 255, 255], [204, 204, 255]]),
    ]:
        picture.save(tmp_path / "x.png", transparency=transparency)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.asarray(read_rgb(tmp_path / "x.png"))[0].tolist() == expected


@pytest.mark.parametrize(
    ("row", "bits", "key", "expected"),
    [
        (b"\x50", 1, 0, [255] * 8),
        (b"\x50", 1, 1, [0, 255, 0, 255, 0, 0, 0, 0]),
        (b"\x1b", 2, 1, [0, 255, 170, 255]),
        (b"\x1b", 2, 2, [0, 85, 255, 255]),
        (b"\x01\x2f", 4, 2, [0, 17, 255, 255]),
        (b"\x00\x01\x80", 8, 128, [0, 1, 255]),
        (sixteen(0, 0x1201, 0x1202), 16, 0x1201, [0, 255, 18]),
    ],
)
def test_the_one_grey_that_png_calls_transparent(reads, row, bits, key, expected):
    found = reads(png([row], colour=0, bits=bits, key=sixteen(key)))
    assert [pixel[0] for pixel in found[0]] == expected


def test_the_one_colour_that_png_calls_transparent(reads):
    row, key = bytes([0, 0, 0, 0, 1, 2, 0, 2, 1]), sixteen(0, 1, 2)
    assert reads(png([row], colour=2, bits=8, key=key)) == [[[0, 0, 0], [255] * 3, [0, 2, 1]]]
    with pytest.raises(DataError, match="mode RGB: 16 bits and a transparent colour"):
        reads(png([sixteen(0, 1, 2)], colour=2, bits=16, key=key))


def test_grey_that_is_multiplied_by_its_alpha(reads):
    content = tiff([bytes([0, 0, 51, 51, 51, 255])], 3, t258=8, t277=2, t338=1)
    try:
        found = reads(content)
    except DataError as error:  # the older versions of Pillow cannot read it
        assert "picture.png (none of JPEG" in str(error)
    else:
        assert [pixel[0] for pixel in found[0]] == [255, 255, 51]


# Black that is white, and up that is down


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "F"])
def test_tiff_where_zero_is_white(tmp_path, mode):
    picture, expected = in_mode(mode)
    for photometric in (0, 1):
        picture.save(tmp_path / "x.tif", tiffinfo={PHOTOMETRIC: photometric})
        with Image.open(tmp_path / "x.tif") as image:
            assert image.tag_v2[PHOTOMETRIC] == photometric
        # Pillow inverts what it writes, but only with 8 bits or fewer.
        inverted = photometric == 0 and mode in ("I;16", "F")
        found = np.asarray(read_rgb(tmp_path / "x.tif"))[..., 0]
        assert np.array_equal(found, 255 - expected if inverted else expected)


def test_tiff_where_zero_is_white_by_its_bytes(reads):
    rows = {1: b"\x40", 8: b"\x00\xff", 16: b"\x00\x00\xff\xff", 32: struct.pack("<2f", 0, 1)}
    for bits, row in rows.items():
        values = {"t258": bits, "t339": 3 if bits == 32 else 1}
        for photometric, expected in ((0, [255, 0]), (1, [0, 255])):
            found = reads(tiff([row], 2, t262=photometric, **values))
            assert [pixel[0] for pixel in found[0]] == expected, (bits, photometric)


UPRIGHT = np.array([[0, 40, 80], [120, 160, 200]])
AS_STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),  # to be turned clockwise
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", AS_STORED)
def test_the_orientation_is_kept_in_every_mode(tmp_path, orientation):
    stored = AS_STORED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for mode, endings in {
        **dict.fromkeys(("L", "P", "RGB", "RGBA"), "png tif"),
        "LA": "png tif",
        "CMYK": "tif",
        "I;16": "png tif",
        "I;16B": "tif",
        "F": "tif",
    }.items():
        picture = Image.fromarray(stored.astype(np.uint8))
        if mode == "F":
            picture = Image.fromarray((stored / 255).astype(np.float32))
        elif mode.startswith("I;16"):
            kind = ">u2" if mode == "I;16B" else "<u2"
            picture = Image.fromarray((stored * 257).astype(kind))
        else:
            picture = picture.convert(mode)
        for ending in endings.split():
            for compression in (None, "tiff_lzw") if ending == "tif" else (None,):
                path = tmp_path / f"x.{ending}"
                picture.save(path, exif=exif, compression=compression)
                found = np.asarray(read_rgb(path))[..., 0]
                assert found.tolist() == UPRIGHT.tolist(), (mode, ending, compression)


# What is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff([struct.pack("<2i", 0, 65535)], 2, t258=32, t339=2), "mode I: .* is white"),
        (tiff([struct.pack("<2I", 0, 2**32 - 1)], 2, t258=32, t339=1), "mode I: .* is white"),
        (tiff([struct.pack("<2h", -1, 1)], 2, t258=16, t339=2), "mode I: .* is white"),
        (tiff([struct.pack("<2b", -1, 1)], 2, t258=8, t339=2), "mode L: .* is white"),
        (tiff([struct.pack("<2f", -0.5, 1)], 2, t258=32, t339=3), "mode F: values from -0.5 to 1;"),
        (tiff([struct.pack("<2f", 0, 255)], 2, t258=32, t339=3), "mode F: values from 0 to 255;"),
        (tiff([struct.pack("<2f", 0, np.nan)], 2, t258=32, t339=3), "mode F: .* from nan to nan"),
        (tiff([struct.pack("<2f", 0, np.inf)], 2, t258=32, t339=3), "mode F: .* from 0 to inf"),
        (tiff([struct.pack("<2d", 0, 1)], 2, t258=64, t339=3), "none of JPEG, .*8-bit PNG"),
        (b"GIF89a" + bytes(20), "none of JPEG, .*8-bit PNG"),
        (png([bytes(range(99))] * 9, colour=0, bits=8)[:99], "mode L: "),  # cut short
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_certain_picture_is_refused_by_name(reads, content, reason):
    with pytest.raises(DataError, match=rf"picture\.png \({reason}") as caught:
        reads(content)
    assert "\n" not in str(caught.value)


def test_an_image_folder_names_each_file_once(tmp_path):
    for name in ("a/1.tif", "a/2.tif", "b/1.png", "b/2.png"):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = np.int32 if name == "a/1.tif" else np.uint8
        Image.fromarray(RAMP.astype(kind)).save(path)
    with pytest.raises(DataError, match="replace or remove") as caught:
        data.image_folder(tmp_path / "own", size=8)
    assert re.findall(r"[ab]/\d\.\w+", str(caught.value)) == ["a/1.tif"]
    assert "mode I" in str(caught.value)


def test_a_picture_far_too_long_is_refused_by_name(tmp_path):
    Image.new("1", (5_000_000, 1)).save(tmp_path / "x.png")
    reason = imageset._read_into(np.zeros((3, 224, 224), dtype=np.uint8), tmp_path / "x.png", 256)
    assert "x.png (" in reason


@pytest.mark.parametrize("side", [10_000, 20_000])  # where Pillow warns, and where it raises
@pytest.mark.parametrize("warn", ["ignore", "error"])
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, side, warn):
    content = bytearray(png([b"\0"], colour=0, bits=8))
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "x.png").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter(warn)
        with pytest.raises(DataError, match=r"x\.png \(.*make it smaller"):
            read_rgb(tmp_path / "x.png")


def test_the_limit_of_pixels_is_pillows(tmp_path, monkeypatch):
    Image.new("L", (10, 10)).save(tmp_path / "x.png")
    for limit in (100, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert read_rgb(tmp_path / "x.png").size == (10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match="mode L: 10 x 10 pixels; make it smaller"),
    ):
        read_rgb(tmp_path / "x.png")


def test_postscript_under_another_name_is_not_run(tmp_path, monkeypatch):
    run = []

    def ghostscript(*args, **options):
        run.append(args)
        return Image.new("RGB", (9, 9)).im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    path = tmp_path / "z.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(DataError, match="none of JPEG"):
        read_rgb(path)
    assert not run
    with Image.open(path) as image:
        image.load()
    assert run, "where all formats are allowed it would be"
