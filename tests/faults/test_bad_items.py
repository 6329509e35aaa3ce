"""One bad item never costs the others, in every command alike; its name is shown without obeying it."""

import errno
import io
import json
import os
import pickle
import signal
import tarfile

import numpy as np
import pytest
import torch

from semfacediff import cli, config, tasks
from semfacediff.data import reading
from semfacediff.data.opening import open_data
from semfacediff.data.reading import Blob
from semfacediff.data.selection import Data
from semfacediff.errors import UserError, printable
from semfacediff.records.folder import held, read_run

from .conftest import SkinEverywhere

TEN_TB = 10 * 10**12
LONG = "a" * 251 + ".png"  # 255 bytes, all that a file system takes
NOT_UTF8 = os.fsdecode(b"not\xffutf8.png")
FORGED = "\x1b[31m\nerror: forged.png"
ODD_BUT_GOOD = "line\nfeed.png"
REASONS = {
    LONG: "a name of 251 bytes without its suffix, the limit is 240; rename the file",
    NOT_UTF8: r"'not\udcffutf8': the name is not UTF-8; rename the file",
    FORGED: r"\x1b[31m\nerror: forged.png: the file is empty",
    "fifo.png": "fifo.png: expected a file, got a FIFO; remove it",
    "folder.png": "folder.png: expected a file, got a folder; remove it",
    "huge.png": f"huge.png: {10**11} bytes are over the limit of {reading.MAX_BYTES}; scale the photo down",
    "zero.png": "zero.png: expected a file, got a device; remove it",
}


@pytest.fixture(autouse=True)
def _not_for_ever():
    """A FIFO that is opened is waited for."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def spoiled(toy_folder):
    """Two good photos, one more of an odd name, and every bad item in :data:`REASONS`; each with a label map."""
    root = toy_folder(2)
    photo, labels = (root / kind / "00000.png" for kind in ("images", "masks"))
    for name in (ODD_BUT_GOOD, LONG, NOT_UTF8):
        (root / "images" / name).write_bytes(photo.read_bytes())
    for name in (ODD_BUT_GOOD, *REASONS):
        (root / "masks" / name).write_bytes(labels.read_bytes())
    (root / "images" / FORGED).touch()
    os.mkfifo(root / "images" / "fifo.png")
    (root / "images" / "folder.png").mkdir()
    (root / "images" / "huge.png").touch()
    os.truncate(root / "images" / "huge.png", 10**11)
    (root / "images" / "zero.png").symlink_to("/dev/zero")
    return root


def evaluation(compose, *words):
    plain = ["editor=recolor", "parser=ground_truth", "attributes=[skin]", "metrics=no_weights", "strips=0"]
    return config.typed(compose("evaluate", *plain, *words), config.EditingEvaluation)


class TestAFolder:
    @pytest.mark.parametrize(
        "words", [["parse"], ["edit", "skin", "pale skin", "--face", "all", "--editor", "recolor"]], ids=lambda w: w[0]
    )
    def test_parse_and_edit_do_the_others(self, spoiled, skin, tmp_path, capsys, words):
        command, out = words[0], tmp_path / "out"
        source = str(spoiled / "images")
        assert cli.main([command, source, *words[1:], "--out", str(out), "--device", "cpu"]) == 1
        said = capsys.readouterr()
        for stem in ("00000", "00001", "line\nfeed"):
            assert (out / f"{stem}.png").is_file()
        facts = json.loads((out / f"{command}_report.json").read_text())
        assert facts["photos"] == 3 + len(REASONS)
        assert facts[f"{command[:4]}ed" if command == "edit" else "parsed"] == 3
        assert sorted(facts["failed"]) == sorted(map(printable, REASONS))
        for name, reason in REASONS.items():
            assert facts["failed"][printable(name)].endswith(reason)
        errors = [line for line in said.err.split("\n") if line.startswith("error: ")]
        assert sorted(errors) == sorted(f"error: {reason}" for reason in facts["failed"].values())
        assert "\x1b[31m" not in said.err + said.out

    def test_evaluate_leaves_them_out_and_finishes(self, spoiled, compose, tmp_path, capsys):
        settings = evaluation(compose, "data=folder", f"data.root={spoiled}", "data.split=all", "data.on_error=skip")
        assert tasks.start(settings, tmp_path / "run") == 0
        skipped = read_run(tmp_path / "run")["data"]["skipped"]
        assert len(skipped) == len(REASONS)
        for reason in REASONS.values():
            assert sum(why.endswith(reason) for why in skipped.values()) == 1
        assert {p.stem for p in (tmp_path / "run" / "edits" / "skin").iterdir()} == {"00000", "00001", "line\nfeed"}

    def test_evaluate_names_them_all_on_a_line_each(self, spoiled, compose, tmp_path):
        settings = evaluation(compose, "data=folder", f"data.root={spoiled}", "data.split=all")
        with pytest.raises(UserError, match=r"^7 of the samples in .* cannot be used") as told:
            tasks.start(settings, tmp_path / "run")
        lines = str(told.value).split("\n")
        assert len(lines) == 1 + len(REASONS)
        for reason in REASONS.values():
            assert sum(line.endswith(reason) for line in lines) == 1
        assert not (tmp_path / "run").exists()

    def test_export_compares_the_others(self, spoiled, tiny_checkpoint, tmp_path, capsys):
        words = ["--to", "half", "--photos", str(spoiled / "images"), "--out", str(tmp_path / "out")]
        for name in (LONG, NOT_UTF8):
            (spoiled / "images" / name).unlink()
        assert cli.main(["export", str(tiny_checkpoint), *words]) == 0
        said = capsys.readouterr()
        assert "(3 photos;" in said.out
        assert said.err.count("left out: ") == len(REASONS) - 2
        assert "\x1b[31m" not in said.err + said.out

    def test_alone_it_is_one_sentence(self, spoiled, skin, tmp_path, capsys):
        for name, reason in REASONS.items():
            photo = spoiled / "images" / name
            if photo.is_file():  # the others are no photo to begin with
                assert cli.main(["parse", str(photo), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
                (line,) = capsys.readouterr().err.strip().split("\n")
                assert line.startswith("error: ")
                assert line.endswith(reason)

    def test_prepare_leaves_out_what_is_no_file(self, official_tree, tmp_path, capsys):
        root = tmp_path / "tree"
        root.mkdir()
        for place in official_tree.iterdir():
            (root / place.name).symlink_to(place)
        (root / "CelebA-HQ-img").unlink()
        (root / "CelebA-HQ-img").mkdir()
        for photo in (official_tree / "CelebA-HQ-img").iterdir():
            (root / "CelebA-HQ-img" / photo.name).symlink_to(photo)
        (root / "CelebA-HQ-img" / "0.jpg").unlink()
        os.mkfifo(root / "CelebA-HQ-img" / "0.jpg")
        assert cli.main(["prepare", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]) == 1
        assert (
            "CelebA-HQ-img/0.jpg: expected a file, got a FIFO; remove it" in (tmp_path / "out/report.txt").read_text()
        )
        assert (tmp_path / "out" / "images" / "20.jpg").is_file()


class TestMemory:
    @pytest.fixture
    def short(self, skin, monkeypatch):
        """The network runs out of memory on photos of more than 64 px."""
        plain = SkinEverywhere.forward

        def forward(self, x):
            if x.mean() > 0.99:  # the white photo
                raise error
            return plain(self, x)

        error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        monkeypatch.setattr(SkinEverywhere, "forward", forward)

    @pytest.mark.parametrize(
        "words", [["parse"], ["edit", "skin", "pale skin", "--face", "all", "--editor", "recolor"]], ids=lambda w: w[0]
    )
    def test_one_photo_that_needs_too_much(self, short, toy_folder, encode, tmp_path, capsys, words):
        root = toy_folder(1) / "images"
        (root / "white.png").write_bytes(encode(np.full((64, 64, 3), 255, np.uint8)))
        rest = [*words[1:], "--out", str(tmp_path / "out"), "--device", "cpu"]
        assert cli.main([words[0], str(root), *rest]) == 1
        reason = "error: white.png: out of memory; scale the photo down, or choose another --device"
        assert reason in capsys.readouterr().err.split("\n")
        assert (tmp_path / "out" / "00000.png").is_file()
        assert cli.main([words[0], str(root / "white.png"), *rest]) == 2
        assert capsys.readouterr().err.strip() == reason

    def test_reading_one_that_needs_too_much(self, toy_folder, monkeypatch):
        file = toy_folder(1) / "images" / "00000.png"
        monkeypatch.setattr(reading.Image, "open", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(UserError, match=r"^x\.png: the memory does not suffice to read it; scale the photo down$"):
            reading.decode_photo(Blob(file, "x.png").read(), "x.png")


def member(name, kind=tarfile.REGTYPE, data=b"", **facts) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def write_members(file, members, encoding="utf-8"):
    """Headers and data byte by byte, so that a header may say what is not so."""
    with open(file, "wb") as f:
        for info, data in members:
            f.write(info.tobuf(tarfile.GNU_FORMAT, encoding, "surrogateescape"))
            f.write(data + bytes(-len(data) % 512))
        f.write(bytes(1024))


@pytest.fixture
def shards(tmp_path, toy_samples, encode):
    """Two good samples in a tar; add further members."""
    root = tmp_path / "shards"
    root.mkdir()
    photos = [encode(s.photo, "webp", lossless=True) for s in toy_samples(2)]
    labels = encode(toy_samples(1)[0].labels)
    good = [member(f"{i}.webp", data=photo) for i, photo in enumerate(photos)]
    good += [member(f"{i}.png", data=labels) for i in range(2)]
    return root, good, photos[0], labels


@pytest.fixture
def read(compose):
    """What the data set in a folder of shards holds."""

    def data(root, labels_needed=True, on_error="skip") -> Data:
        words = ["data=shards", f"data.root={root}", "data.split=all", f"data.on_error={on_error}"]
        return open_data(evaluation(compose, *words).data, labels_needed=labels_needed)

    return data


ODD = {
    "a link": {"kind": tarfile.SYMTYPE, "linkname": "0.webp"},
    "a hard link": {"kind": tarfile.LNKTYPE, "linkname": "0.webp"},
    "a FIFO": {"kind": tarfile.FIFOTYPE},
    "a device": {"kind": tarfile.CHRTYPE},
}


class TestTars:
    @pytest.mark.parametrize("labels_needed", [True, False])
    @pytest.mark.parametrize("kind", ODD)
    def test_links_and_devices_are_defects(self, shards, read, kind, labels_needed):
        """Without the photo its label map must not pass for one."""
        root, good, _, labels = shards
        write_members(root / "x.tar", [*good, member("9.webp", **ODD[kind]), member("9.png", data=labels)])
        data = read(root, labels_needed)
        assert data.faces.ids == ["0", "1"]
        assert data.skipped == {"9": f"x.tar:9.webp: expected a file, got {kind}; put the file itself into the tar"}
        assert data.n_expected == 3

    def test_a_sparse_member_is_a_defect(self, shards, read):
        """Its bytes do not lie in the tar one after another."""
        root, good, _, labels = shards
        sparse = bytearray(member("9.webp", tarfile.GNUTYPE_SPARSE)[0].tobuf(tarfile.GNU_FORMAT))
        sparse[148:156] = b" " * 8
        sparse[148:156] = b"%06o\0 " % sum(sparse)
        write_members(root / "x.tar", [*good, member("9.png", data=labels)])
        whole = (root / "x.tar").read_bytes()
        (root / "x.tar").write_bytes(bytes(sparse) + whole)
        assert read(root).skipped == {
            "9": "x.tar:9.webp: expected a file, got a sparse file; put the file itself into the tar"
        }

    def test_a_header_that_claims_ten_terabytes(self, shards, read):
        root, good, photo, labels = shards
        liar, _ = member("9.webp")
        liar.size = TEN_TB
        write_members(root / "x.tar", [*good, member("9.png", data=labels), (liar, photo)])
        data = read(root)
        assert data.faces.ids == ["0", "1"]
        left = len(photo) + (-len(photo) % 512) + 1024
        assert data.skipped["9"] == f"x.tar:9.webp: the archive ends after {left} of {TEN_TB} bytes; copy it again"
        assert data.skipped["x.tar"].startswith("x.tar: not a whole tar (")
        with pytest.raises(UserError, match=f"the archive ends after {left} of {TEN_TB} bytes; copy it again"):
            read(root, on_error="error")

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_a_header_of_a_header_that_claims_ten_terabytes(self, shards, read, kind):
        root, good, _, _ = shards
        liar, _ = member("9.webp", kind)
        liar.size = TEN_TB
        write_members(root / "x.tar", [*good, (liar, b"")])
        data = read(root)
        assert data.faces.ids == ["0", "1"]
        assert list(data.skipped) == ["x.tar"]
        assert data.skipped["x.tar"].startswith("x.tar: not a whole tar (")

    def test_names(self, shards, read):
        root, good, photo, labels = shards
        names = [os.fsdecode(b"\xff"), "b" * 245, "c\x1b[31m\n"]
        odd = [member(f"{n}.webp", data=photo) for n in names] + [member(f"{n}.png", data=labels) for n in names]
        write_members(root / "x.tar", [*good, *odd])
        data = read(root)
        assert data.faces.ids == ["0", "1", "c\x1b[31m\n"]
        long = data.skipped.pop("b" * 245)
        assert long.endswith("a name of 245 bytes without its suffix, the limit is 240; rename the file")
        assert data.skipped == {r"\udcff": r"'\udcff': the name is not UTF-8; rename the file"}
        assert data.digest == read(root).digest

    def test_a_compressed_tar_says_so_where_nothing_is_left(self, shards, read):
        root, _, photo, _ = shards
        with tarfile.open(root / "x.tar", "w:gz") as tar:
            info, data = member("0.webp", data=photo)
            tar.addfile(info, io.BytesIO(data))
        with pytest.raises(UserError, match=r"no usable sample .*; the first of 1 reasons: x\.tar: not a whole tar"):
            read(root, labels_needed=False)

    def test_a_fifo_is_not_opened(self, shards, read):
        root, good, _, _ = shards
        write_members(root / "x.tar", good)
        os.mkfifo(root / "y.tar")
        assert read(root).skipped == {"y.tar": "y.tar: not a whole tar (it is a FIFO); copy the shard again"}


class TestEditHoldsItsFolder:
    def test_a_second_process_is_told(self, skin, toy_folder, tmp_path, capsys):
        photos, out = toy_folder(1) / "images", tmp_path / "out"
        words = ["edit", str(photos), "skin", "pale skin", "--face", "all", "--editor", "recolor", "--device", "cpu"]
        with held(out, "wait"):
            assert cli.main([*words, "--out", str(out)]) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"error: process {os.getpid()} on ")
            assert said.endswith(f" is working in {out}; wait for it, or give another --out\n")
            assert list(out.iterdir()) == [out / ".holder"]
        assert cli.main([*words, "--out", str(out)]) == 0
        assert sorted(p.name for p in out.iterdir()) == ["00000", "00000.png", "edit_report.json"]

    def test_a_full_disk_ends_it_at_the_first_photo(self, skin, toy_folder, tmp_path, capsys, monkeypatch):
        """It is no fault of a photo."""
        written = []

        def full(source, target):
            if target.suffix == ".png":
                written.append(target)
                raise OSError(errno.ENOSPC, "No space left on device")
            os.rename(source, target)

        photos, out = toy_folder(3) / "images", tmp_path / "out"
        words = ["edit", str(photos), "skin", "pale skin", "--face", "all", "--editor", "recolor", "--device", "cpu"]
        monkeypatch.setattr(os, "replace", full)
        assert cli.main([*words, "--out", str(out)]) == 2
        assert "No space left on device" in capsys.readouterr().err
        assert len(written) == 1


class TestWhatIsShown:
    def test_escapes(self):
        assert printable("añ🦊 b") == "añ🦊 b"
        assert printable("\x1b]0;x\x07\r\n\u202e\u2028\udcff") == r"\x1b]0;x\x07\r\n\u202e\u2028\udcff"
        assert printable(printable("\n")) == r"\n"

    def test_a_sentence_and_its_details(self):
        error = UserError("two are bad:", "a\nb", "c")
        assert str(error) == "two are bad:\n  a\\nb\n  c"
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
