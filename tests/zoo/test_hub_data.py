"""Hub data sets as they are: pictures of every kind and size, shards, archives, real column names, rows first."""

import gc
import io
import json
import tarfile
import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from shared import vision, zoo

pytest.importorskip("pyarrow")
RED = (200, 40, 90)


def encoded(mode="RGB", size=(6, 4), kind="PNG", colour=RED, **options):
    """One plain picture of `size` (width, height)."""
    file = io.BytesIO()
    image = Image.new("RGB", size, colour).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def write_parquet(folder, cells, split="train", shard="00000-of-00001", image="image", **columns):
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({image: [{"bytes": cell, "path": None} for cell in cells], **columns})
    table.to_parquet(folder / f"{split}-{shard}.parquet")


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "JPEG", 4),
        ("CMYK", "JPEG", 8),
        ("RGBA", "PNG", 0),
        ("P", "PNG", 40),
        ("L", "JPEG", 2),
    ],
)
def test_every_picture_is_rgb(tmp_path, mode, kind, tolerance):
    write_parquet(tmp_path, [encoded(mode, kind=kind), encoded()], label=[3, 4])
    data = zoo.load_data(str(tmp_path))
    assert type(data) is zoo.ImageData
    assert data.x.shape == (2, 3, 4, 6)
    assert data.x.dtype == torch.float32
    wanted = [round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2])] * 3 if mode == "L" else RED
    assert data.x[0].mean((1, 2)).mul(255).tolist() == pytest.approx(wanted, abs=tolerance + 1e-3)
    assert data.y.tolist() == [3, 4]


def test_deep_grey_is_scaled_and_hidden_colours_of_palettes_survive(tmp_path):
    deep, file = Image.fromarray(np.full((4, 6), 2**15, np.uint16)), io.BytesIO()
    deep.save(file, "PNG")
    clear = encoded("P", transparency=bytes(range(16)))
    write_parquet(tmp_path, [file.getvalue(), clear])
    x = zoo.load_data(str(tmp_path)).x
    assert x[0].unique().tolist() == pytest.approx([0.5], abs=1e-4)
    assert x[1].shape == (3, 4, 6)


def test_pictures_are_upright(tmp_path):
    pixels, exif = np.zeros((4, 6, 3), np.uint8), Image.Exif()
    pixels[:, :3] = 255  # the left half is white
    exif[0x0112] = 6  # the camera was turned: left becomes top
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    write_parquet(tmp_path, [file.getvalue(), encoded(size=(4, 6))])
    x = zoo.load_data(str(tmp_path)).x
    assert x.shape == (2, 3, 6, 4)
    assert x[0, 0].mean(1).tolist() == [1, 1, 1, 0, 0, 0]


def test_sizes_that_differ_are_decoded_one_by_one(tmp_path):
    write_parquet(tmp_path, [encoded(size=(4 + i, 9 - i)) for i in range(5)], label=range(5))
    data = zoo.load_data(str(tmp_path))
    assert type(data) is zoo.PhotoData
    assert [tuple(image.shape) for image in data.x] == [(3, 9 - i, 4 + i) for i in range(5)]
    assert torch.equal(data.x[-1], data.x[4])
    for rows in (slice(1, 3), [1, 2], torch.tensor([1, 2]), np.array([1, 2]), data.y.remainder(3) > 0):
        assert [image.shape[1] for image in data.x[rows]][:2] == [8, 7]
    assert len(data.x[data.y > 3]) == 1
    with pytest.raises(IndexError, match="there is no image 5"):
        data.x[5]
    alive, most = weakref.WeakSet(), 0

    class Counted:
        def __len__(self):
            return len(data.x)

        def __iter__(self):
            nonlocal most
            for image in data.x:
                alive.add(image)
                gc.collect()
                most = max(most, len(alive))
                yield image

    assert vision.resize(Counted(), 3, crop=True).shape == (5, 3, 3, 3)
    assert most <= 2


def test_sets_too_large_to_hold_are_decoded_one_by_one(tmp_path, monkeypatch):
    write_parquet(tmp_path, [encoded()] * 3)
    monkeypatch.setattr("shared.zoo.hub._tables._MOST_BYTES", 3 * 3 * 24 * 4 - 1)
    assert type(zoo.load_data(str(tmp_path))) is zoo.PhotoData
    assert type(zoo.load_data(str(tmp_path), rows=2)) is zoo.ImageData


def test_shards_are_one_split(tmp_path):
    for shard, labels in (("00000-of-00002", [0, 1]), ("00001-of-00002", [2, 3])):
        write_parquet(tmp_path / "data", [encoded()] * 2, shard=shard, label=labels)
    write_parquet(tmp_path / "data", [encoded()], "validation", label=[9])
    (tmp_path / "metadata.jsonl").write_text('{"text": "no row"}\n')
    assert zoo.load_data(str(tmp_path)).y.tolist() == [0, 1, 2, 3]
    assert zoo.load_data(str(tmp_path), rows=3).y.tolist() == [0, 1, 2]
    assert zoo.load_data(str(tmp_path), split="validation").y.tolist() == [9]
    assert zoo.load_data(str(tmp_path), split="dev").y.tolist() == [9]


def test_configurations_are_never_mixed(tmp_path):
    for config, labels in (("small-raw-v1", [0, 1]), ("large-v1", [2, 3])):
        write_parquet(tmp_path / config, [encoded()] * 2, label=labels)
    (tmp_path / "metadata.jsonl").write_text('{"text": "no row"}\n')
    with pytest.raises(
        zoo.AssetError, match=r"has several configurations, large-v1, small-raw-v1: say which, as .*:NAME"
    ):
        zoo.load_data(str(tmp_path))
    assert zoo.load_data(f"{tmp_path}:large-v1").y.tolist() == [2, 3]
    with pytest.raises(ValueError, match="config='larg' is unknown"):
        zoo.load_data(f"{tmp_path}:larg")


def test_folders_of_splits_and_shards_are_no_configurations(tmp_path):
    write_parquet(tmp_path / "plain_text" / "train", [encoded()], label=[0])
    write_parquet(tmp_path / "plain_text" / "00001", [encoded()], label=[1])
    write_parquet(tmp_path / "plain_text" / "test", [encoded()], "test", label=[2])
    assert sorted(zoo.load_data(str(tmp_path)).y.tolist()) == [0, 1]
    assert zoo.load_data(str(tmp_path), split="test").y.tolist() == [2]


def test_lines_in_shards(tmp_path):
    for shard in range(3):
        pd.DataFrame({"sentence": [f"{shard}a", f"{shard}b"], "label": [0, 1]}).to_json(
            tmp_path / f"train-{shard}.jsonl", orient="records", lines=True
        )
    assert zoo.load_data(str(tmp_path)).texts == ["0a", "0b", "1a", "1b", "2a", "2b"]
    assert zoo.load_data(str(tmp_path), rows=3).texts == ["0a", "0b", "1a"]


@pytest.mark.parametrize("sizes", [[(6, 4)] * 4, [(6, 4), (4, 6), (5, 5), (6, 4)]])
def test_what_lies_behind_the_rows_is_never_touched(tmp_path, sizes):
    """A broken picture and a broken shard behind the limit do no harm; before it they are one clear error."""
    cells = [encoded(size=size) for size in sizes]
    cells[3] = cells[3][:20]
    write_parquet(tmp_path, cells, shard="00000-of-00002", label=range(4))
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(b"no parquet")
    data = zoo.load_data(str(tmp_path), rows=3)
    assert sum(image.shape[0] for image in data.x) == 9
    assert data.y.tolist() == [0, 1, 2]
    with pytest.raises(zoo.AssetError, match=r"image 3 can't be decoded") as caught:
        list(zoo.load_data(str(tmp_path), rows=4).x)
    assert "\n" not in str(caught.value)


def test_archives_of_webdataset(tmp_path):
    first = {
        "000.jpg": encoded("CMYK", kind="JPEG"),
        "000.cls": b"3",
        "001.png": encoded("L"),
        "001.cls": b"5\n",
        "001.seg.png": encoded(size=(1, 1)),
        "001.npy": b"not read",
    }
    write_tar(tmp_path / "train-000000.tar", first)
    write_tar(tmp_path / "train-000001.tar", {"x/002.jpg": b"broken", "x/002.cls": b"7"})
    data = zoo.load_data(str(tmp_path), rows=2)
    assert data.x.shape == (2, 3, 4, 6)
    assert data.y.tolist() == [3, 5]
    with pytest.raises(zoo.AssetError, match="image 2 can't be decoded"):
        zoo.load_data(str(tmp_path))


def test_archives_with_json_or_text(tmp_path):
    members = {f"{i}.{end}": content for i in range(2) for end, content in (
        ("jpg", encoded(size=(6 + i, 4), kind="JPEG")),
        ("json", json.dumps({"label": i + 1, "caption": "a sky"}).encode()),
        ("txt", b"the sky"),
    )}  # fmt: skip
    write_tar(tmp_path / "a/0.tar", members)
    data = zoo.load_data(str(tmp_path / "a"))
    assert type(data) is zoo.PhotoData
    assert data.y.tolist() == [1, 2]
    write_tar(tmp_path / "b/0.tar", {"0.txt": b"one", "1.txt": b"two"})
    assert zoo.load_data(str(tmp_path / "b")).texts == ["one", "two"]
    write_tar(tmp_path / "c/0.tar", {"0.jpg": encoded(), "0.cls": b"cat"})
    with pytest.raises(zoo.AssetError, match=r"0\.cls isn't what its name says"):
        zoo.load_data(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("image", "label"), [("image", "label"), ("img", "label"), ("img", "fine_label"), ("image", "labels")]
)
def test_columns_by_their_real_names(tmp_path, image, label):
    write_parquet(tmp_path, [encoded()] * 2, image=image, **{"coarse_label": [8, 9], label: [1, 2]})
    assert zoo.load_data(str(tmp_path)).y.tolist() == [1, 2]


def test_other_columns_are_named_or_one_error(tmp_path):
    write_parquet(tmp_path, [encoded()] * 2, image="scan", grade=[1, 2], note=["a", "b"])
    with pytest.raises(
        zoo.AssetError, match=r"images in no column .*columns are scan, grade, note: .*\{'image': 'scan'\}"
    ):
        zoo.load_data(str(tmp_path))
    with pytest.raises(zoo.AssetError, match=r"labels in no column .*scan, grade, note: .*\{'label': 'grade'\}"):
        zoo.load_data(str(tmp_path), columns={"image": "scan"})
    assert zoo.load_data(str(tmp_path), columns={"image": "scan", "label": "grade"}).y.tolist() == [1, 2]
    assert zoo.load_data(str(tmp_path), columns={"image": "scan", "label": None}).y is None
    assert zoo.load_data(str(tmp_path), columns={"image": None, "text": "note"}).texts == ["a", "b"]
    with pytest.raises(zoo.AssetError, match="has no column 'picture'; it has scan, grade, note"):
        zoo.load_data(str(tmp_path), columns={"image": "picture"})
    with pytest.raises(ValueError, match="columns='img' is unknown"):
        zoo.load_data(str(tmp_path), columns={"img": "scan"})
    with pytest.raises(zoo.AssetError, match="column 'note' holds str; labels are whole numbers"):
        zoo.load_data(str(tmp_path), columns={"image": "scan", "label": "note"})
    with pytest.raises(zoo.AssetError, match="row 0 has no image"):
        zoo.load_data(str(tmp_path), columns={"image": "note", "label": None})


def test_lists_of_labels(tmp_path):
    write_parquet(tmp_path, [encoded()] * 2, labels=[[0, 1, 1], [1, 0, 0]])
    assert zoo.load_data(str(tmp_path)).y.tolist() == [[0, 1, 1], [1, 0, 0]]


def test_class_names_stand_in_the_file(tmp_path):
    import pyarrow
    from pyarrow import parquet

    feature = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "img": {"_type": "Image"}}
    table = pyarrow.Table.from_pylist([{"img": {"bytes": encoded(), "path": None}, "label": 1}])
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "train.parquet")
    assert zoo.load_data(str(tmp_path)).classes == ("cat", "dog")


def test_sets_of_grey_pictures_have_one_channel(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRISE_HUB", str(tmp_path))
    write_parquet(tmp_path / "datasets/ylecun/mnist/mnist", [encoded("L")] * 2, label=[1, 2])
    assert zoo.load_data("ylecun/mnist").x.shape == (2, 1, 4, 6)


def test_only_the_shards_that_rows_need_are_fetched(tmp_path, monkeypatch):
    import huggingface_hub

    for shard in range(3):
        write_parquet(tmp_path, [encoded()] * 2, shard=f"0000{shard}-of-00003", label=[shard] * 2)
    names = [path.name for path in tmp_path.iterdir()] + ["README.md"]
    fetched = []

    def download(repo, file, *, repo_type, revision):
        assert (repo, repo_type, revision) == ("org/large", "dataset", "abc")
        fetched.append(file)
        return str(tmp_path / file)

    info = SimpleNamespace(sha="abc", siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("REPRISE_HUB", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert zoo.load_data("org/large", rows=3).y.tolist() == [0, 0, 1]
    assert fetched == ["train-00000-of-00003.parquet", "train-00001-of-00003.parquet"]
