"""Photographs to codes and back: independent sums, and files that fail."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_book import cli
from sparse_book.data.load import load
from sparse_book.linear import encode
from sparse_book.linear.dictionaries import random_dictionary

from conftest import ROOT

PHOTO = load("photographs").images[1][100:228, 200:328]


@pytest.fixture(scope="module")
def atoms() -> torch.Tensor:
    return encode.shipped_dictionary()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = (PHOTO * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def slowly(code: encode.EncodedImage, atoms: torch.Tensor) -> np.ndarray:
    """Decode patch by patch, in double precision, without the library."""
    side, stride = code.side, code.stride
    table = atoms.double().numpy()
    table = table / np.linalg.norm(table, axis=1, keepdims=True)
    total = np.zeros((code.height + 2 * side, code.width + 2 * side))
    count = np.zeros_like(total)
    columns = math.ceil((code.width - side) / stride) + 1
    starts = code.starts.tolist()
    for patch, mean in enumerate(code.means.tolist()):
        dense = np.zeros(len(table))
        for entry in range(starts[patch], starts[patch + 1]):
            dense[code.atoms[entry]] = code.values[entry] * code.step
        pixels = mean + (dense @ table).reshape(side, side)
        top, left = (stride * part for part in divmod(patch, columns))
        total[top : top + side, left : left + side] += pixels
        count[top : top + side, left : left + side] += 1
    here = slice(code.height), slice(code.width)
    return np.clip(total[here] / count[here] / 255, 0, 1)


@pytest.mark.parametrize("method", ["omp", "lasso"])
@pytest.mark.parametrize("stride", [None, 5])
@pytest.mark.parametrize("size", [(128, 128), (8, 8), (61, 90)])
def test_decoded_is_codes_times_dictionary(
    method: str, stride: int | None, size: tuple[int, int], atoms
) -> None:
    image = PHOTO[: size[0], : size[1]]
    code = encode.encode_image(
        image, atoms, method=method, stride=stride, chunk=37
    )
    again = encode.decode_image(code, atoms, chunk=41)
    np.testing.assert_allclose(again.numpy(), slowly(code, atoms), atol=2e-6)
    error = np.square(image.double().numpy() - again.double().numpy()).mean()
    ours = encode.psnr(image, again)
    assert abs(ours - 10 * math.log10(1 / error)) < 1e-6
    assert ours > 28


def test_error_of_each_patch_is_what_was_asked_for(atoms) -> None:
    """With fine steps and enough atoms, the tolerance and the rounding."""
    code = encode.encode_image(
        PHOTO, atoms, active=64, tolerance=3.0, step=0.1
    )
    again = encode.decode_image(code, atoms)
    gap = (PHOTO - again).unfold(0, 8, 8).unfold(1, 8, 8) * 255
    assert gap.square().mean((2, 3)).sqrt().max() < 3.1


def test_atoms_per_patch_bound(atoms) -> None:
    code = encode.encode_image(PHOTO, atoms, active=3, tolerance=0.0)
    assert code.active_map().max() == 3


def test_any_dictionary_and_scale() -> None:
    """Atoms that are not of unit norm, and patches of another side."""
    generator = torch.Generator().manual_seed(0)
    atoms = 7 * random_dictionary(50, 36, generator=generator)
    code = encode.encode_image(PHOTO, atoms, active=30, tolerance=2.0)
    assert code.side == 6
    again = encode.decode_image(code, atoms)
    np.testing.assert_allclose(again.numpy(), slowly(code, atoms), atol=2e-6)
    assert encode.psnr(PHOTO, again) > 30


def test_bits_by_brute_force(atoms) -> None:
    code = encode.encode_image(PHOTO, atoms)
    sets = sum(
        math.log2(math.comb(128, k)) + math.log2(129)
        for k in code.active_map().flatten().tolist()
    )

    def entropy(numbers: list[int]) -> float:
        shares = [numbers.count(n) / len(numbers) for n in set(numbers)]
        return -sum(p * math.log2(p) for p in shares)

    values, means = code.values.tolist(), code.means.tolist()
    steps = [b - a for a, b in zip([0, *means], means, strict=False)]
    expected = sets + len(values) * entropy(values)
    expected += len(steps) * entropy(steps)
    assert abs(encode.estimated_bits(code) / expected - 1) < 1e-9


def test_files_are_the_same_every_time(tmp_path: Path, atoms) -> None:
    for name in "ab":
        code = encode.encode_image(PHOTO, atoms)
        encode.save_codes(tmp_path / name, code, atoms)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_of_codes_lends_its_dictionary(tmp_path: Path, atoms) -> None:
    own = atoms[:70].clone()
    code = encode.encode_image(PHOTO, own)
    encode.save_codes(tmp_path / "own.npz", code, own)
    assert torch.equal(encode.read_dictionary(tmp_path / "own.npz"), own)
    back, its = encode.load_codes(tmp_path / "own.npz")
    same = encode.decode_image(back, its)
    assert torch.equal(same, encode.decode_image(code, own))
    with pytest.raises(ValueError, match="that of the code"):
        encode.save_codes(tmp_path / "other.npz", code, atoms)


def test_learned_dictionaries_of_the_pages_work() -> None:
    atoms = encode.read_dictionary(ROOT / "results" / "fields" / "l0.npz")
    code = encode.encode_image(PHOTO, atoms, tolerance=8.0, active=40)
    assert code.side == 16
    assert encode.psnr(PHOTO, encode.decode_image(code, atoms)) > 25


def test_shipped_dictionary_says_where_it_came_from(atoms) -> None:
    path = Path(encode.__file__).with_name("encode.npz")
    with np.load(path) as arrays:
        about = json.loads(arrays["about"].tobytes())
    assert about["checksum"] == load("photographs").checksum
    script = ROOT / about["command"].removeprefix("python ")
    assert script.is_file()
    assert atoms.shape == (128, 64)
    norms = atoms.norm(dim=1)  # in half precision
    torch.testing.assert_close(norms, torch.ones(128), atol=1e-3, rtol=0)


# Files as they come.


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("L", "png"),
        ("RGB", "png"),
        ("RGB", "bmp"),
        ("RGB", "jpg"),
        ("CMYK", "jpg"),
        ("P", "gif"),
        ("1", "png"),
        ("LA", "png"),
        ("RGBA", "webp"),
        ("I;16", "png"),
        ("I;16", "tiff"),
    ],
)
def test_kinds_of_images(mode: str, suffix: str, tmp_path: Path) -> None:
    grey = (PHOTO * 255).round().to(torch.uint8).numpy()
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(grey).convert(mode)
    path = tmp_path / f"photo.{suffix}"
    picture.save(path)
    image = encode.read_grey(path)
    assert image.shape == PHOTO.shape
    assert float(image.min()) >= 0 and float(image.max()) <= 1
    if mode != "1":  # lossy formats stay close, the others are exact
        exact = suffix in ("png", "bmp", "tiff")
        assert (image - PHOTO).abs().mean() < (1e-6 if exact else 0.03)


def test_colour_is_luminance_and_transparency_is_white(
    tmp_path: Path,
) -> None:
    for name, colour, grey in [
        ("red", (255, 0, 0), 0.299),
        ("green", (0, 255, 0), 0.587),
        ("blue", (0, 0, 255), 0.114),
        ("clear", (0, 0, 0, 0), 1.0),
    ]:
        mode = "RGBA" if len(colour) == 4 else "RGB"
        Image.new(mode, (9, 9), colour).save(tmp_path / f"{name}.png")
        image = encode.read_grey(tmp_path / f"{name}.png")
        assert (image - grey).abs().max() < 1 / 255


@pytest.mark.parametrize("note", range(1, 9))
def test_turned_cameras(note: int, tmp_path: Path) -> None:
    """Stored as EXIF note says, each of the eight ways reads the same."""
    grey = (PHOTO[:60, :90] * 255).round().to(torch.uint8).numpy()
    stored = {
        1: grey,
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: grey.T[::-1],
        7: grey.T[::-1, ::-1],
        8: grey.T[:, ::-1],
    }[note]
    picture = Image.fromarray(np.ascontiguousarray(stored))
    exif = picture.getexif()
    exif[0x0112] = note
    picture.save(tmp_path / "turned.png", exif=exif)
    image = encode.read_grey(tmp_path / "turned.png")
    assert np.array_equal((image * 255).round().numpy(), grey)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.4, 0.9])
def test_truncated_files(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    picture = Image.fromarray((PHOTO * 255).to(torch.uint8).numpy())
    picture.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"photo\.\w+ cannot be used"):
        encode.read_grey(path)


def test_damaged_codes(tmp_path: Path, atoms) -> None:
    path = tmp_path / "codes.npz"
    encode.save_codes(path, encode.encode_image(PHOTO, atoms), atoms)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= 255
        path.write_bytes(damaged)
        try:
            code, its = encode.load_codes(path)
        except ValueError as error:
            assert "codes.npz" in str(error)
        else:  # a byte that carries no meaning, such as a date
            encode.decode_image(code, its)
    path.write_bytes(whole[:200])
    with pytest.raises(ValueError, match="no codes in it"):
        encode.load_codes(path)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"active": 0}, "active must be at least 1"),
        ({"tolerance": -1.0}, "tolerance must be at least 0"),
        ({"penalty": 0.0}, "penalty must be above 0"),
        ({"stride": 9}, "stride must be in 1…8"),
        ({"step": 0.0}, "step must be above 0"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_bad_settings(options: dict, match: str, atoms) -> None:
    with pytest.raises(ValueError, match=match):
        encode.encode_image(PHOTO, atoms, **options)


def test_bad_images(atoms) -> None:
    with pytest.raises(ValueError, match="at least 8 × 8 pixels"):
        encode.encode_image(PHOTO[:7], atoms)
    with pytest.raises(ValueError, match=r"image must be in 0…1"):
        encode.encode_image(PHOTO * 255, atoms)
    with pytest.raises(ValueError, match="square number of pixels"):
        encode.encode_image(PHOTO, atoms[:, :63])
    with pytest.raises(ValueError, match="must have contrast"):
        encode.learn_image_dictionary([torch.ones(20, 20)], patches=50)


# The command.


def test_command_there_and_back(
    photo: Path, tmp_path: Path, capsys, atoms
) -> None:
    rebuilt, again = tmp_path / "rebuilt.png", tmp_path / "again.png"
    words = ["encode", str(photo), "--reconstruct", str(rebuilt)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    codes = tmp_path / "photo.png.codes.npz"
    assert cli.main(["decode", str(codes), str(again)]) == 0
    assert rebuilt.read_bytes() == again.read_bytes()
    code, its = encode.load_codes(codes)
    assert torch.equal(its, atoms)
    quality = encode.psnr(PHOTO, encode.decode_image(code, its))
    assert f"PSNR         {quality:.2f} dB" in text
    mean = code.active_map().double().mean()
    assert f"{mean:.2f} atoms per patch" in text


def test_command_learns(photo: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "own.npz"
    words = ["encode", str(photo), "--output", str(out)]
    words += ["--learn", str(photo), "--atoms", "20", "--side", "6"]
    assert cli.main(words) == 0
    assert encode.read_dictionary(out).shape == (20, 36)
    words = ["encode", str(photo), "--dictionary", str(out)]
    assert cli.main(words) == 0
    assert "20 atoms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["encode", "nowhere.png"], "nowhere.png"),
        (["encode", "."], "irectory"),
        (["encode", "PHOTO", "--stride", "0"], "stride must be in"),
        (["encode", "PHOTO", "--dictionary", "PHOTO"], "no dictionary"),
        (["encode", "PHOTO", "--method", "x"], "method must be one of"),
        (["encode", "PHOTO", "--output", "PHOTO"], "different files"),
        (
            ["encode", "PHOTO", "--learn", "PHOTO", "--dictionary", "x"],
            "exclude each other",
        ),
        (["decode", "PHOTO", "x.png"], "no codes in it"),
    ],
)
def test_command_refuses(
    words: list[str], match: str, photo: Path, capsys
) -> None:
    before = photo.read_bytes()
    given = [str(photo) if word == "PHOTO" else word for word in words]
    assert cli.main(given) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("sparse-book: ") and match in said
    assert photo.read_bytes() == before


def test_commands_appear_in_the_help(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["encode", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "--atoms-per-patch" in text and "--learn" in text
