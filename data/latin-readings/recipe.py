"""The shipped pages printed with period type, new and worn, and read by Tesseract."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from shared.worlds import align_words, long_s, print_page, set_page
from shared.zoo import AssetError, load_data
from shared.zoo.recipes import recipe
from shared.zoo.recipes._ship import write_lines

FONTS = (  # Debian's fonts-ebgaramond, fonts-oldstandard, fonts-junicode; all under the SIL Open Font License
    "opentype/ebgaramond/EBGaramond12-Regular.otf",
    "truetype/fonts-oldstandard/OldStandard-Regular.ttf",
    "opentype/junicode/JunicodeTwoBeta-Regular.otf",
)
FOLDER = Path("/usr/share/fonts")
READER = ("tesseract", "-", "-", "-l", "eng", "--psm", "6", "--dpi", "150")
SEED = 0


@recipe("latin-readings")
def make(folder: Path) -> None:
    """Print and read every page twice. Takes four minutes of one core; `AssetError` without Tesseract or a font."""
    missing = [] if shutil.which(READER[0]) else ["tesseract-ocr with tesseract-ocr-eng"]
    missing += [font for font in FONTS if not (FOLDER / font).is_file()]
    if missing:
        raise AssetError(f"this machine lacks {', '.join(missing)}; install Debian's packages that the recipe names")
    rows = load_data("latin-pages").table.to_dict("records")
    write_lines(folder / "latin-readings.jsonl.gz", (reading for row in rows for reading in read_page(row)))


def read_page(row: dict) -> list[dict]:
    """What Tesseract reads of a page fresh from the press and of a worn one."""
    words = [long_s(word) for word in row["words"]]
    font = FOLDER / FONTS[row["page"] % len(FONTS)]
    page = set_page(words, row["latin"], blocks=row["block"], font=font)
    generator = np.random.default_rng([SEED, row["page"]])
    worn = {"tilt": generator.uniform(-0.6, 0.6), "blur": 1.3, "specks": 0.01, "generator": generator}
    readings = []
    for state, wear in {"new": {}, "worn": worn}.items():
        lines = read_picture(print_page(page, font=font, **wear))
        read = [word for line in lines for word in line]
        readings.append(
            {"page": row["page"], "state": state, "font": font.stem, "lines": [" ".join(line) for line in lines]}
            | {"printed": align_words(words, read).tolist(), "boxes": page.boxes.tolist() if state == "new" else []}
        )
    return readings


def read_picture(picture: np.ndarray) -> list[list[str]]:
    """The lines that Tesseract reads, each as its words."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "page.png"
        Image.fromarray(picture).save(path)
        command = [READER[0], str(path), *READER[2:]]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split() for line in text.splitlines() if line.split()]
