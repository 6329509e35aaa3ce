"""``export --to zip`` and ``import``: what left a machine arrives as it was, or not at all."""

import hashlib
import json
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from semfacediff.cli import main
from semfacediff.errors import UserError
from semfacediff.records import sealing
from semfacediff.records.folder import read_run
from semfacediff.records.integrity import file_digests
from semfacediff.tasks.resummarised import refuse_inconsistent

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
OLD = FIXTURES / "sealed" / "format_1.zip"
"""A record of an earlier version, sealed when the layout of the zip was fixed; never made again."""
RUN = "editing-eb3eda02"
RUNS = {
    "editing": f"editing/{RUN}",
    "cascade": "editing/cascade-7cd5d880",
    "parsing": "parsing/parsing-2f39394c",
    "synthesis": "synthesis/synthesis-68203450",
    "training": "train_parser/parser-52c8aea7",
    "sweep": "editing/sweep",
    "features": "merged/features",
}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Path:
    """``outputs/`` of an earlier version's finished runs."""
    root = tmp_path_factory.mktemp("earlier")
    with tarfile.open(FIXTURES / "earlier_version" / "runs.tar.xz") as tar:
        wanted = [m for m in tar if any(f"finished/outputs/{place}/" in m.name for place in RUNS.values())]
        tar.extractall(root, [m for m in wanted if "checkpoints" not in m.name], filter="data")
    return root / "finished" / "outputs"


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(file: Path, contents: dict[str, bytes], listed: bool = True) -> Path:
    """A zip of ``contents``; ``listed``: its list says their digests."""
    if listed:
        seal = json.loads(contents[sealing.SEAL])
        for run, files in seal["runs"].items():
            for name in files:
                data = contents[f"{run}/{name}"]
                files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        contents = contents | {sealing.SEAL: json.dumps(seal).encode()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return file


def resealed(file: Path, contents: dict[str, bytes]) -> Path:
    """As :func:`written`, with the digests in ``run.json`` made again too."""
    place = file.parent / "unpacked"
    place.mkdir()
    for name, data in contents.items():
        (place / Path(name).name).write_bytes(data)
    run = json.loads(contents[f"{RUN}/run.json"]) | {"files": file_digests(place)}
    for f in place.iterdir():
        f.unlink()
    place.rmdir()
    return written(file, contents | {f"{RUN}/run.json": json.dumps(run).encode()})


def old_copy(folder: Path) -> Path:
    (file := folder / "old.zip").write_bytes(OLD.read_bytes())
    return file


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[[Path, str], None]:
    """``refused(file, sentence)``: exit code 2, one line, and nothing written."""

    def check(file: Path, sentence: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        assert main(["import", str(file), "--into", str(tmp_path / "runs")]) == 2
        said = capsys.readouterr().err
        assert re.search(sentence, said), said
        assert said.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.mark.parametrize("kind", RUNS)
def test_a_record_arrives_as_it_was(earlier, tmp_path, kind):
    source, file, into = earlier / RUNS[kind], tmp_path / "run.zip", tmp_path / "runs"
    assert main(["export", str(source), "--to", "zip", "--out", str(file)]) == 0
    assert main(["import", str(file), "--into", str(into)]) == 0
    names = {name.rpartition("/")[0] for name in members(file)} - {""}
    assert len(names) == (3 if kind == "sweep" else 1)
    for name in names:
        new, old = into / name, source / name.partition("/")[2]
        kept = {f.name for f in new.iterdir()}
        assert kept == {f.name for f in old.iterdir() if f.name in sealing.RECORD} >= {"run.json", "config.yaml"}
        assert all((new / f).read_bytes() == (old / f).read_bytes() for f in kept)
    assert not any(name.endswith((".png", ".npz")) for name in members(file)), "no photo, no feature of one"


def test_the_same_record_gives_the_same_zip_and_edits_only_if_asked(earlier, tmp_path):
    files = [tmp_path / f"{i}.zip" for i in range(3)]
    for file, more in zip(files, ([], [], ["--edits"]), strict=True):
        assert main(["export", str(earlier / RUNS["editing"]), "--to", "zip", "--out", str(file), *more]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    edits = members(files[2]).keys() - members(files[0]).keys()
    assert len(edits) == 8
    assert all(re.fullmatch(rf"{RUN}/edits/(hair|lips)/\d+\.png", name) for name in edits)
    assert main(["import", str(files[2]), "--into", str(tmp_path / "runs")]) == 0
    assert len(list((tmp_path / "runs" / RUN / "edits").rglob("*.png"))) == 8


def test_a_zip_of_an_earlier_version_is_read_and_twice_is_once(tmp_path, capsys):
    into = tmp_path / "runs"
    for said in ("imported", "was there already, unchanged"):
        assert main(["import", str(OLD), "--into", str(into)]) == 0
        assert capsys.readouterr().out == f"{into / RUN}: {said}\n"
        kept = {f"{RUN}/{f.name}": f.read_bytes() for f in (into / RUN).iterdir()}
        assert kept == {name: data for name, data in members(OLD).items() if name != sealing.SEAL}
    assert read_run(into / RUN)["code"]["version"] == "0.2.0.dev0"


def test_a_record_that_is_not_comparable_says_so(tmp_path, capsys):
    contents, name = members(OLD), f"{RUN}/run.json"
    run = json.loads(contents[name]) | {"not_comparable": ["weights.clip: random"]}
    file = written(tmp_path / "a.zip", contents | {name: json.dumps(run).encode()})
    (tmp_path / "runs").mkdir()
    assert main(["import", str(file), "--into", str(tmp_path / "runs")]) == 0
    assert "not comparable (weights.clip: random), so that tables refuse it" in capsys.readouterr().out
    assert [f.name for f in (tmp_path / "runs").iterdir()] == [RUN], "no temporary folder is left"


def test_another_record_of_that_name_stays(tmp_path, capsys):
    into = tmp_path / "runs"
    main(["import", str(OLD), "--into", str(into)])
    (into / RUN / "config.yaml").write_text("seed: 1\n")
    assert main(["import", str(OLD), "--into", str(into)]) == 2
    assert "is another record (config.yaml differs); nothing was imported" in capsys.readouterr().err
    assert (into / RUN / "config.yaml").read_text() == "seed: 1\n"


def test_a_changed_row_is_refused_however_many_digests_follow_it(tmp_path, refused):
    contents, log = members(OLD), f"{RUN}/samples.jsonl"
    changed = contents | {log: re.sub(rb'"coverage": 0\.\d+', b'"coverage": 0.5', contents[log], count=1)}
    assert changed[log] != contents[log]
    file = written(tmp_path / "a.zip", changed, listed=False)
    refused(file, r"samples.jsonl' has digest \w+, seal.json says \w+; nothing was imported")
    refused(written(tmp_path / "b.zip", changed), r"samples.jsonl has digest \w+, the run recorded")
    refused(resealed(tmp_path / "c.zip", changed), r"the row of \w+ differs in samples.parquet")


def test_a_summary_that_is_not_of_its_samples_is_refused(tmp_path, refused):
    contents, name = members(OLD), f"{RUN}/summary.csv"
    heads, first, *others = contents[name].decode().splitlines()
    cells = first.split(",")
    cells[heads.split(",").index("seam_mean")] = "0.5"
    better = contents | {name: "\n".join([heads, ",".join(cells), *others, ""]).encode()}
    refused(resealed(tmp_path / "a.zip", better), r"seam_mean of hair is 0.5, its samples give -?\d")
    renamed = contents | {name: "\n".join([heads, "nose" + first.removeprefix("hair"), *others, ""]).encode()}
    refused(resealed(tmp_path / "b.zip", renamed), "summary.csv: no row of hair, which has samples")


def test_a_summary_of_another_kind_is_one_sentence(tmp_path, refused):
    contents, summary = members(OLD), f"{RUN}/summary.csv"
    odd = contents | {summary: contents[summary].replace(b",n_expected,", b",expected,")}
    refused(resealed(tmp_path / "a.zip", odd), r"not a record \(KeyError: 'n_expected'\); export it again; nothing was")


@pytest.mark.parametrize(
    ("kind", "row", "column", "sentence"),
    [
        ("parsing", "hair", "iou", "iou of hair is 0.123, its samples give"),
        ("parsing", "hair", "class", "the row beard is of no sample"),
        ("synthesis", "reconstruction", "miou", "miou of reconstruction is 0.123, its samples give"),
        ("features", "hair", "n_expected", None),
        ("features", "hair", "kid", None),
    ],
)
def test_every_kind_of_summary_is_that_of_its_samples(earlier, tmp_path, kind, row, column, sentence):
    """What the samples do not tell (the number expected, distances of sets) is left to the digests."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in (f for f in (earlier / RUNS[kind]).iterdir() if f.is_file()):
        (folder / file.name).write_bytes(file.read_bytes())
    table = pd.read_csv(folder / "summary.csv")
    told = table.iloc[:, 0] == row
    assert told.sum() == 1
    table[column] = table[column].astype(object)
    table.loc[told, column] = "beard" if column == "class" else 0.123
    table.to_csv(folder / "summary.csv", index=False)
    run = json.loads((folder / "run.json").read_text()) | {"files": file_digests(folder)}
    (folder / "run.json").write_text(json.dumps(run))
    if sentence is None:
        refuse_inconsistent(folder)
    else:
        with pytest.raises(UserError, match=sentence):
            refuse_inconsistent(folder)


@pytest.mark.parametrize(
    "name",
    ["../run.json", f"{RUN}/../../run.json", "/etc/run.json", f"{RUN}/..\\run.json", "C:/run.json", ".ssh/run.json",
     f"{RUN}/photo.png", "a/b/c/run.json", f"{RUN}//run.json", "run.json", f"{RUN}/edits/../../x.png"],
)  # fmt: skip
def test_names_outside_a_record_are_refused(tmp_path, refused, name):
    contents = members(OLD)
    refused(written(tmp_path / "a.zip", contents | {name: b"{}"}, listed=False), "is no file of a record")
    seal, (run, _, file) = json.loads(contents[sealing.SEAL]), name.rpartition("/")
    nothing = {"sha256": hashlib.sha256(b"{}").hexdigest(), "bytes": 2}
    own = seal["runs"].setdefault(run, {"run.json": nothing, "config.yaml": nothing})
    own[file] = nothing
    extra = {f"{run}/{f}": b"{}" for f, told in own.items() if told is nothing}
    listed = contents | extra | {sealing.SEAL: json.dumps(seal).encode()}
    refused(written(tmp_path / "b.zip", listed, listed=False), "is no file of a record")


def test_what_is_listed_and_what_is_there_are_the_same(tmp_path, refused):
    contents = members(OLD)
    extra = written(tmp_path / "a.zip", contents | {f"{RUN}/tasks.csv": b"a"}, listed=False)
    refused(extra, "tasks.csv' is not once in the zip and once in its seal.json")
    less = {k: v for k, v in contents.items() if not k.endswith("summary.csv")}
    refused(written(tmp_path / "b.zip", less, listed=False), "summary.csv' is not once in the zip")
    twice = written(tmp_path / "c.zip", contents)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{RUN}/run.json", b"{}")
    refused(twice, "run.json' is not once in the zip")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_links_folders_and_pipes_are_refused(tmp_path, refused, mode):
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in members(OLD).items():
            info = zipfile.ZipInfo(member)
            info.external_attr = (mode if member.endswith("config.yaml") else stat.S_IFREG) << 16
            archive.writestr(info, data)
    refused(file, "config.yaml' is a link or no file; nothing was imported")


def test_large_members_and_zips_are_refused(tmp_path, refused, monkeypatch):
    sizes, file = [len(data) for data in members(OLD).values()], old_copy(tmp_path)
    monkeypatch.setattr(sealing, "LARGEST", max(sizes) - 1)
    refused(file, rf"has {max(sizes):,} bytes, at most {max(sizes) - 1:,} are allowed")
    monkeypatch.setattr(sealing, "LARGEST", max(sizes))
    monkeypatch.setattr(sealing, "WHOLE", sum(sizes) - 1)
    refused(file, "unpacks to more than")
    monkeypatch.setattr(sealing, "WHOLE", sum(sizes))
    assert main(["import", str(file), "--into", str(tmp_path / "runs")]) == 0


def test_a_member_larger_than_its_header_says_is_refused(tmp_path, refused):
    """The directory says 10 bytes, the data unpack to a million."""
    contents = members(OLD) | {f"{RUN}/config.yaml": b"#" * 1_000_000}
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    lied = file.read_bytes().replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lied != file.read_bytes()
    file.write_bytes(lied)
    refused(file, "damaged|has digest")


@pytest.mark.parametrize(
    "change",
    [lambda raw: b"no zip", lambda raw: raw[: len(raw) // 2], lambda raw: raw[:900] + bytes(200) + raw[1100:]],
    ids=["another file", "cut off", "overwritten"],
)
def test_damaged_files_are_one_sentence(tmp_path, refused, change):
    file = tmp_path / "a.zip"
    file.write_bytes(change(OLD.read_bytes()))
    refused(file, "damaged|has digest")


def test_other_zips_and_later_layouts_are_named(tmp_path, refused):
    for contents, said in (
        ({"a.txt": b"a"}, "no seal.json in it"),
        ({sealing.SEAL: b'{"format": 2}'}, "format 2, this version reads 1; use the version that made it"),
        ({sealing.SEAL: b"[1]"}, "format None, this version reads 1"),
        ({sealing.SEAL: b'{"format": 1, "runs": {"a": 1}}'}, "seal.json is damaged"),
    ):
        refused(written(tmp_path / "a.zip", contents, listed=False), said)
    refused(tmp_path / "absent.zip", "absent.zip: cannot be read .No such file")


def test_an_unfinished_run_and_a_full_disk_leave_no_zip(earlier, tmp_path, capsys, monkeypatch):
    source, out, begun = earlier / RUNS["editing"], tmp_path / "out" / "a.zip", tmp_path / "begun"
    begun.mkdir()
    for file in (f for f in source.iterdir() if f.is_file()):
        (begun / file.name).write_bytes(file.read_bytes())
    run = json.loads((begun / "run.json").read_text()) | {"status": "running"}
    (begun / "run.json").write_text(json.dumps(run))
    assert main(["export", str(begun), "--to", "zip", "--out", str(out)]) == 2
    assert "status running, expected done" in capsys.readouterr().err

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert main(["export", str(source), "--to", "zip", "--out", str(out)]) == 2
    assert re.search("cannot write .*No space left", capsys.readouterr().err)
    assert list(out.parent.iterdir()) == []


def test_a_full_disk_imports_nothing(tmp_path, refused, monkeypatch):
    file = old_copy(tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("semfacediff.records.writing.os.fsync", full)
    refused(file, "No space left on device")


def test_options_of_parsers_do_not_go_with_a_record(earlier, tmp_path, capsys):
    run, out = str(earlier / RUNS["editing"]), tmp_path / "a.zip"
    for words, said in (
        ([run, "--to", "zip", "--int8"], "--int8 is of parsers"),
        (["--to", "zip"], "RUN is not named"),
        ([run, "--to", "hf", "--edits"], "--edits is for --to zip"),
        ([str(tmp_path), "--to", "zip"], "found no run.json"),
    ):
        assert main(["export", *words, "--out", str(out)]) == 2
        assert said in capsys.readouterr().err
    out.touch()
    assert main(["export", run, "--to", "zip", "--out", str(out)]) == 2
    assert "exists; name a new file" in capsys.readouterr().err
