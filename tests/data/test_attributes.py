"""``attributes.csv``: what is written is read, by any writer, and it belongs to the data."""

import pytest

from semfacediff.data.attributes import attributes_text, read_attributes
from semfacediff.data.files import FileFaces
from semfacediff.data.folder import index_folder
from semfacediff.data.shards import index_shards
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK

FACES = {"00000": {"Smiling": True, "yaw": -3.25, "light": 'soft, from "above"'}, "00001": {"Smiling": False}}


def faces(root, kind="folder"):
    index = index_folder(root, "images", "masks", True) if kind == "folder" else index_shards(root, "*.tar", True)
    return FileFaces(index.entries, CELEBAMASK)


def test_values_keep_their_kinds(tmp_path):
    (tmp_path / "attributes.csv").write_text(attributes_text(FACES))
    found = read_attributes(tmp_path)
    assert found == FACES
    assert [type(v) for v in found["00000"].values()] == [bool, float, str]


def test_a_file_by_hand(tmp_path):
    text = '\ufeffid,hat,age,tone\r\n7,TRUE,41,\r\n\r\n8,false,,"a, b"\r\n9,True,1e3,nan\r\n'
    (tmp_path / "attributes.csv").write_bytes(text.encode())
    assert read_attributes(tmp_path) == {
        "7": {"hat": True, "age": 41.0},
        "8": {"hat": False, "tone": "a, b"},
        "9": {"hat": True, "age": 1000.0, "tone": "nan"},
    }


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_samples_have_them_and_the_digest_knows(tmp_path, toy_folder, toy_shards, kind):
    root = toy_folder(3) if kind == "folder" else toy_shards(3)
    without = faces(root, kind).inspect(lambda: None)
    assert faces(root, kind)[0].attributes == {}
    (root / "attributes.csv").write_text(attributes_text(FACES | {"elsewhere": {"Smiling": True}}))
    found = faces(root, kind)
    assert [found[i].attributes for i in range(3)] == [FACES["00000"], FACES["00001"], {}]
    assert found.keep(found.entries[:1])[0].attributes == FACES["00000"]
    told = found.inspect(lambda: None)
    assert told[1] == {}
    assert told[0] != without[0]
    (root / "attributes.csv").write_text(attributes_text(FACES | {"00001": {"Smiling": True}}))
    assert faces(root, kind).inspect(lambda: None)[0] != told[0]
    (root / "attributes.csv").unlink()
    assert faces(root, kind).inspect(lambda: None) == without


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"csv: expected a first line 'id,<name>,<name>...', got ''$"),
        ("photo,hat\n1,true\n", r"csv: expected a first line 'id,<name>,<name>...', got 'photo,hat'$"),
        ("id,hat,hat\n1,true,true\n", r"csv: expected a first line"),
        ("id,hat\n1,true\n2\n", r"csv, line 3: expected 2 cells as in the first line, got 1$"),
        ("id,hat\n1,true\n1,false\n", r"csv, line 3: '1' occurs twice; remove one of the two lines$"),
        (b"\xff\xfe\x00", r"csv: cannot be read \(.*\); fix it, or remove it to go without attributes$"),
    ],
)
def test_mistakes_are_sentences(tmp_path, text, said):
    (tmp_path / "attributes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=said):
        read_attributes(tmp_path)
