"""Embeddings against dlib's own, and against what a small network in an ONNX file must give."""

import json
import sys

import dlib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.faces.detection import model_file
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.face_embedding import RESNET, ArcFace, DlibFace
from semfacediff.metrics.identity import calibration_file, open_identity

FIRST, LAST = ["N", 3, 112, 112], ["N", 112, 112, 3]


@pytest.fixture(scope="module")
def network():
    return DlibFace()


@pytest.fixture
def onnx_file(tmp_path):
    """``onnx_file(shape, name)``: a network that averages squares of 28 px of its input, ``[N, 3, 112, 112]``."""

    def written(shape=FIRST, kind=TensorProto.FLOAT):
        nodes = [helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2])] if shape == LAST else []
        nodes += [helper.make_node("AveragePool", ["first" if nodes else "x"], ["pooled"], kernel_shape=[28, 28],
                                   strides=[28, 28]), helper.make_node("Flatten", ["pooled"], ["y"])]  # fmt: skip
        values = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, ["N", "D"])
        graph = helper.make_graph(nodes, "face", [values[0]], [values[1]])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "face.onnx")
        return tmp_path / "face.onnx"

    return written


def test_the_128_numbers_are_dlibs_own(network, face_detector, portrait):
    (face,) = face_detector.faces(portrait)
    chip = network.chip(portrait, face.points)
    own = dlib.face_recognition_model_v1(str(model_file(RESNET)))
    numbers = network.embed(chip)
    assert numbers.shape == (128,)
    np.testing.assert_allclose(numbers, np.array(own.compute_face_descriptor(chip)), rtol=1e-4, atol=1e-4)
    # dlib's whole way, whose square is cut and interpolated by itself; JPEG at quality 50 moves a face by 0.07
    left, top, right, bottom = face.box
    points = [dlib.point(int(x), int(y)) for x, y in face.points]
    shape = dlib.full_object_detection(dlib.rectangle(left, top, right - 1, bottom - 1), points)
    theirs = np.array(own.compute_face_descriptor(portrait, shape))
    assert network.distance(numbers, theirs) < 0.05
    assert network.distance(numbers, numbers) == 0


def test_the_neutral_colour_is_zero_to_the_network(network):
    """dlib subtracts (122.782, 117.001, 104.298), as its sources say."""
    assert network.neutral == pytest.approx((122.782, 117.001, 104.298), abs=0.5)


@pytest.mark.parametrize("shape", [FIRST, LAST], ids=["channels first", "channels last"])
@pytest.mark.parametrize("values", ["signed", "bytes"])
def test_arcface_is_what_the_network_computes(onnx_file, shape, values):
    chip = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    network = ArcFace(onnx_file(shape), values)
    squares = chip.astype(float).reshape(4, 28, 4, 28, 3).mean((1, 3)).transpose(2, 0, 1).ravel()
    squares = squares if values == "bytes" else (squares - 127.5) / 127.5
    expected = squares / np.linalg.norm(squares)
    # Means of 784 values in single precision; of signed ones most cancels, so that the rounding is of the values.
    np.testing.assert_allclose(network.embed(chip), expected, rtol=1e-4, atol=1e-4)
    assert ("127.5" in network.facts["input"]) == (values == "signed")
    assert network.facts["weights"].startswith("sha256:")


def test_the_distance_of_arcface_is_one_minus_the_cosine(onnx_file):
    network = ArcFace(onnx_file())
    a, b = (np.random.default_rng(seed).normal(size=48) for seed in (1, 2))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert network.distance(a, b) == pytest.approx(1 - a @ b, abs=1e-12)
    assert network.distance(a, a) == 0
    assert network.distance(a, -a) == pytest.approx(2, abs=1e-12)


def test_a_face_lies_in_arcfaces_square_as_arcface_has_it(onnx_file, face_detector, portrait):
    (face,) = face_detector.faces(portrait)
    matrix = ArcFace(onnx_file()).frame(face.points)
    found = face.points @ matrix[:, :2].T + matrix[:, 2]
    right, left, nose = found[:2].mean(0), found[2:4].mean(0), found[4]
    # ArcFace's five points: eyes at (38.3, 51.7) and (73.5, 51.5), tip of the nose at y 71.7, mouth at y 92.3.
    assert right == pytest.approx((73.5, 51.5), abs=3)
    assert left == pytest.approx((38.3, 51.7), abs=3)
    assert 71.7 < nose[1] < 92.3


@pytest.mark.parametrize("shape", [["N", 3, 224, 224], ["N", 1, 112, 112], ["N", 112, 3, 112]])
def test_a_network_with_another_input_is_refused(onnx_file, shape):
    file = onnx_file(shape)
    with pytest.raises(UserError, match=r"weights\.arcface: .*face\.onnx takes tensor\(float\) \['N', .*expected one"):
        ArcFace(file)


def test_a_network_of_half_precision_is_refused(onnx_file):
    with pytest.raises(UserError, match=r"takes tensor\(float16\).*expected one float input"):
        ArcFace(onnx_file(kind=TensorProto.FLOAT16))


def test_no_file_a_damaged_one_and_no_onnxruntime(onnx_file, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"weights\.arcface: no file at .*absent\.onnx; correct the path"):
        ArcFace(tmp_path / "absent.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    with pytest.raises(
        UserError, match=r"damaged\.onnx: onnxruntime cannot open it \(.*\); name an ONNX file in weights\.arcface"
    ):
        ArcFace(tmp_path / "damaged.onnx")
    file = onnx_file()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs the package onnxruntime; install it with pip install 'semfacediff\[ex"):
        ArcFace(file)


def test_an_embedding_without_a_direction_is_no_number(onnx_file):
    with pytest.raises(ValueError, match=r"the embedding is zero or not finite"):
        ArcFace(onnx_file(), "bytes").embed(np.zeros((112, 112, 3), np.uint8))


def test_the_metric_with_an_arcface_file_and_its_calibration(onnx_file, portrait):
    file, settings = onnx_file(), config.IdentityConfig(backend="arcface", values="signed")
    hidden = np.zeros(portrait.shape[:2], np.uint8)
    pair = EditPair(portrait, (portrait * 0.6).astype(np.uint8), hidden, hidden > 0, None, attribute="hair")
    bare = open_identity(settings, str(file))
    said = bare.score(pair)
    assert 0 < said["identity_distance"] < 2
    assert said["identity"] is None
    anchors = {"whole": {"same": 0, "different": 2 * said["identity_distance"]}}
    plain = {"weights": bare.network.facts["weights"], "anchors": anchors}
    calibration_file(file).write_text(json.dumps(plain))
    assert open_identity(settings, str(file)).score(pair)["identity"] == pytest.approx(0.5)
