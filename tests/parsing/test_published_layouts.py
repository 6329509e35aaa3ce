"""Published SegFormers and SegFaces as their authors laid them out, opened by folder, by hub id and in the cache.

File names, key names and configurations are the published ones; widths and depths are smaller.
"""

import collections
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.parsing import build_parser, load_parser
from semfacediff.parsing.checkpoint import load_published, read_card, resolve
from semfacediff.parsing.named_file import read_name
from semfacediff.parsing.opening import open_parser, open_trained
from semfacediff.parsing.public import PUBLIC_PARSERS
from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD
from semfacediff.parsing.segformer_folder import SIZES, Size, start_digest, start_from

FACE_PARSING = "jonathandinu/face-parsing"
SMALL = {"b0": Size((1, 1, 1, 1), (8, 16, 20, 32), 16), "b5": Size((1, 2, 3, 1), (8, 16, 40, 64), 24)}
PREPROCESSOR = {
    "do_normalize": True,
    "do_reduce_labels": False,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_processor_type": "SegformerFeatureExtractor",
    "image_std": [0.229, 0.224, 0.225],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 512, "width": 512},
}
EARLIER = ["background", *(f"{n}.png" for n in (
    "skin nose r_eye l_eye r_brow l_brow r_ear l_ear mouth u_lip l_lip neck hair neck_l cloth eye_g hat ear_r"
).split())]  # fmt: skip
"""Class names of face-parsing's first revision."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, size in SMALL.items():
        monkeypatch.setitem(SIZES, name, size)


def as_published(size, classes):
    """``config.json`` of face-parsing, of another size and with other classes."""
    return {
        "_name_or_path": FACE_PARSING,
        "architectures": ["SegformerForSemanticSegmentation"],
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout_prob": 0.1,
        "decoder_hidden_size": size.decoder_hidden_size,
        "depths": list(size.depths),
        "downsampling_rates": [1, 4, 8, 16],
        "drop_path_rate": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_sizes": list(size.hidden_sizes),
        "id2label": {str(i): name for i, name in enumerate(classes)},
        "image_size": 224,
        "initializer_range": 0.02,
        "label2id": {name: i for i, name in enumerate(classes)},
        "layer_norm_eps": 1e-06,
        "mlp_ratios": [4, 4, 4, 4],
        "model_type": "segformer",
        "num_attention_heads": [1, 2, 5, 8],
        "num_channels": 3,
        "num_encoder_blocks": 4,
        "patch_sizes": [7, 3, 3, 3],
        "reshape_last_stage": True,
        "semantic_loss_ignore_index": 255,
        "sr_ratios": [8, 4, 2, 1],
        "strides": [4, 2, 2, 2],
        "transformers_version": "4.37.0.dev0",
    }


@pytest.fixture(scope="module")
def library():
    """``library(name, classes)``: the library's own small network in eval mode, made once."""
    made = {}

    def net(name="b0", classes=19):
        if (name, classes) not in made:
            plain = as_published(SMALL[name], [str(i) for i in range(classes)])
            settings = {k: plain[k] for k in ("depths", "hidden_sizes", "decoder_hidden_size")}
            with torch.random.fork_rng():
                torch.manual_seed(len(made))
                made[name, classes] = SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes, **settings))
            made[name, classes].decode_head.batch_norm.running_var.uniform_(0.5, 2)
        return made[name, classes].eval()

    return net


@pytest.fixture
def layout(library, tmp_path):
    """``layout(...)``: face-parsing's folder. ``generation``: of the key names; ``files``: which weights files."""

    def write(name="b0", generation="first", classes=CELEBAMASK.classes, files=("model.safetensors",), **changes):
        folder = tmp_path / f"{name}-{generation}-{len(classes)}"
        (folder / "onnx").mkdir(parents=True)
        net = library(name, len(classes))
        net.save_pretrained(folder)  # under the names of the library's first releases
        state = load_file(folder / "model.safetensors")
        if generation == "later":
            state = {key: value.clone() for key, value in net.state_dict().items()}
        (folder / "model.safetensors").unlink()
        if "model.safetensors" in files:
            save_file(state, folder / "model.safetensors", {"format": "pt"})
        if "pytorch_model.bin" in files:
            torch.save(state, folder / "pytorch_model.bin")
        plain = as_published(SMALL[name], classes) | changes
        (folder / "config.json").write_text(json.dumps(plain))
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
        for other in ("README.md", "quantize_config.json", "onnx/model.onnx"):
            (folder / other).write_text("{}")
        return folder

    return write


def opened(checkpoint, **keys):
    """(model, card, digest) as every command opens it."""
    settings = config.ParserConfig.trained(str(checkpoint)).model_copy(update=keys)
    return open_trained(settings)


X = torch.linspace(-1, 1, 3 * 32 * 64).view(1, 3, 32, 64)


@torch.inference_mode()
def logits(net):
    return net(X)


@torch.inference_mode()
def expected(net):
    return F.interpolate(net(X).logits, size=X.shape[-2:], mode="bilinear", align_corners=False)


class TestSegFormer:
    @pytest.mark.parametrize("generation", ["first", "later"])
    @pytest.mark.parametrize("name", SMALL)
    def test_by_folder_by_snapshot_in_the_cache_and_by_id(self, name, generation, layout, library, hub_cache):
        folder = layout(name, generation)
        keys = set(load_file(folder / "model.safetensors"))
        sign = "segformer.encoder.block.0.0.attention.self.query.weight"
        assert (sign in keys) == (generation == "first")
        assert ("segformer.stages.0.blocks.0.attention.q_proj.weight" in keys) == (generation == "later")
        snapshot = hub_cache(FACE_PARSING, folder)
        for way in (snapshot, snapshot.parents[1], f"{FACE_PARSING}@{snapshot.name}", f"{FACE_PARSING}@main"):
            assert resolve(way) == resolve(FACE_PARSING) == snapshot
        net, card, digest = opened(FACE_PARSING)
        assert (card.name, card.label_space, card.input_size) == (f"segformer_{name}", "celebamask", 512)
        assert (card.mean, card.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert card.training["read_from"] == {"label_space": "id2label", "input_size": "preprocessor_config.json"}
        torch.testing.assert_close(logits(net), expected(library(name)), rtol=0, atol=1e-6)
        other, _, same = opened(folder)
        assert torch.equal(logits(other), logits(net))
        assert same == digest

    def test_pickled_weights_alone_as_in_its_first_revision(self, layout, library):
        folder = layout(files=("pytorch_model.bin",))
        (folder / "preprocessor_config.json").write_text(
            json.dumps({"feature_extractor_type": "SegformerFeatureExtractor", "size": 512, "do_normalize": True})
        )
        net, card, _ = opened(folder)
        assert card.input_size == 512
        torch.testing.assert_close(logits(net), expected(library()), rtol=0, atol=1e-6)

    def test_a_run_records_what_told_the_space_and_the_size(self, layout, hub_cache):
        hub_cache(FACE_PARSING, layout())
        settings = config.ParserConfig.trained(FACE_PARSING).model_copy(update={"input_size": 64})
        parser, facts = open_parser(settings, CELEBAMASK, torch.device("cpu"))
        assert facts["read_from"] == {"label_space": "id2label", "input_size": "parser.input_size"}
        assert (facts["input_size"], parser.card.input_size, facts["name"]) == (64, 64, "segformer_b0")
        assert opened(FACE_PARSING)[2] != facts["digest"], "another input size is another parser"

    @pytest.mark.parametrize("generation", ["first", "later"])
    def test_ade20ks_weights_as_a_start(self, generation, layout, library, hub_cache):
        id_ = "nvidia/segformer-b5-finetuned-ade-640-640"
        folder = layout("b5", generation, [f"thing {i}" for i in range(150)], ("pytorch_model.bin",))
        hub_cache(id_, folder)
        net = build_parser("segformer_b5")
        start_from(net, "segformer_b5", id_)
        key = "decode_head.linear_fuse.weight"
        assert torch.equal(net.state_dict()[key], library("b5", 150).state_dict()[key])
        assert net.state_dict()["decode_head.classifier.bias"].shape == (19,)
        assert start_digest("segformer_b5", id_) == start_digest("segformer_b5", str(folder))

    def test_a_start_that_the_hub_does_not_have(self):
        id_ = "nvidia/segformer-b5-finetuned-ade-512-512"
        with pytest.raises(
            UserError, match=r"take a published start of segformer_b5 \(nvidia/segformer-b5-finetuned-ade-640-64"
        ):
            start_from(torch.nn.Identity(), "segformer_b5", id_)

    def test_an_id_of_which_nothing_is_here(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(UserError) as caught:
            resolve("jonathandino/face-parsing@main")
        assert str(caught.value) == (
            "parser.checkpoint: nothing is at jonathandino/face-parsing@main, neither here nor in the model hub's "
            "cache; correct the path, train a parser with train_parser.py, or fetch one that the hub has with "
            "'semfacediff fetch jonathandino/face-parsing@main' (known: jonathandinu/face-parsing)"
        )


class TestClassOrder:
    def test_another_order_in_other_spellings(self, layout, library):
        """Channel i is the class that the file calls so, wherever ours has it."""
        folder = layout(classes=EARLIER)
        assert read_card(folder).label_space == "celebamask"
        rows = [EARLIER.index(c if c == "background" else f"{c}.png") for c in CELEBAMASK.classes]
        assert rows[3] == 16
        torch.testing.assert_close(logits(opened(folder)[0]), expected(library())[:, rows], rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        "names",
        [
            "Background,Face,Nose,Eyeglasses,left eye,Right Eye,left_eyebrow,right-eyebrow,leftEar,r ear,inner mouth,"
            "Upper Lip,lower_lip,Hair,HAT,earring,Necklace,neck,Clothes",
            "bg,skin,nose,glasses,eye_left,eye_right,l_eyebrow,brow right,l_ear,right_ear,inside_mouth,ulip,llip,hair,"
            "hat,earrings,neck_l,neck,clothing",
        ],
    )
    def test_usual_spellings(self, layout, names):
        assert read_card(layout(classes=names.split(","))).label_space == "celebamask"

    def test_eleven_classes_are_lapas(self, layout):
        assert read_card(layout(classes=SPACES["lapa"].classes)).label_space == "lapa"

    def test_keys_of_id2label_are_numbers_in_whatever_order_they_stand(self, layout, library):
        classes = dict(sorted((str(i), name) for i, name in enumerate(SPACES["zllrunning"].classes)))
        assert list(classes)[:3] == ["0", "1", "10"]
        folder = layout(id2label=classes)
        net, card, _ = opened(folder)
        assert card.label_space == "zllrunning"
        torch.testing.assert_close(logits(net), expected(library()), rtol=0, atol=1e-6)

    def test_a_number_without_a_name(self, layout):
        gap = {str(i + 1): name for i, name in enumerate(CELEBAMASK.classes)}
        with pytest.raises(UserError, match=r"expected the numbers 0 to 18 once each, got 1, 2, 3"):
            read_card(layout(id2label=gap))

    @pytest.mark.parametrize(
        ("classes", "said"),
        [
            ([*CELEBAMASK.classes, "beard"], r"its 20 classes are .* \(not matched: beard\); say what"),
            (CELEBAMASK.classes[:-1], r"its 18 classes are .* \(missing: cloth\); say what"),
            (["背景", "皮肤", *CELEBAMASK.classes[2:]], r"\(not matched: 背景, 皮肤; missing: background, skin\)"),
            (["face", *CELEBAMASK.classes[1:]], r"\(of one class: face, skin; missing: background\)"),
        ],
    )
    def test_what_is_not_matched_is_listed_with_how_to_give_the_order(self, layout, classes, said):
        with pytest.raises(UserError, match=said) as caught:
            read_card(layout(classes=classes))
        assert "parser.label_space=[background,skin,nose,...]" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_the_order_is_given_by_names(self, layout, library):
        """Twenty channels, of which one is none of ours, and eighteen, which cannot tell a class."""
        twenty = layout(classes=["beard", *(f"c{i}" for i in range(19))])
        net, card, _ = opened(twenty, label_space=[None, *reversed(CELEBAMASK.classes)])
        assert card.label_space == "celebamask"
        wanted = expected(library("b0", 20))[:, 1:].flip(1)
        torch.testing.assert_close(logits(net), wanted, rtol=0, atol=1e-6)
        eighteen = layout(classes=CELEBAMASK.classes[:-1])
        net = opened(eighteen, label_space=list(CELEBAMASK.classes[:-1]))[0]
        torch.testing.assert_close(logits(net)[:, :18], expected(library("b0", 18)), rtol=0, atol=1e-6)
        assert logits(net).softmax(1)[:, 18].max() == 0

    def test_the_order_is_given_by_a_spaces_name(self, layout, library):
        folder = layout(classes=[f"teil {i}" for i in range(19)])
        net, card, digest = opened(folder, label_space="zllrunning")
        assert card.label_space == "zllrunning"
        assert card.training["read_from"]["label_space"] == "parser.label_space"
        torch.testing.assert_close(logits(net), expected(library()), rtol=0, atol=1e-6)
        assert digest != opened(folder, label_space="segface")[2]
        assert digest != opened(folder, label_space=list(reversed(CELEBAMASK.classes)))[2]

    @pytest.mark.parametrize(
        ("stated", "said"),
        [
            ("lapa", r"parser.label_space=lapa has 11 classes, but .*config.json names 19 \(teil 0, "),
            (["skin", "hair"], r"parser.label_space lists 2, but .* names 19"),
            (["beard", *CELEBAMASK.classes[1:]], r"for each channel one of background, skin.* or null, got beard"),
            (["skin", *CELEBAMASK.classes[1:]], r"each once, or null, got skin"),
            ([None] * 19, "got null alone"),
            ("celeba", "unknown label space 'celeba'"),
        ],
    )
    def test_an_order_that_is_none(self, layout, stated, said):
        with pytest.raises(UserError, match=said):
            opened(layout(classes=[f"teil {i}" for i in range(19)]), label_space=stated)


class TestIncomplete:
    def test_without_its_preprocessor_file(self, layout):
        folder = layout()
        (folder / "preprocessor_config.json").unlink()
        card = read_card(folder)
        assert (card.input_size, card.mean) == (512, IMAGENET_MEAN)
        said = "the default, for no preprocessor_config.json says it"
        assert card.training["read_from"]["input_size"] == said

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json", "preprocessor_config.json"])
    def test_a_link_to_nothing_in_the_cache(self, file, layout, hub_cache):
        snapshot = hub_cache(FACE_PARSING, layout())
        (snapshot / file).resolve().unlink()
        with pytest.raises(UserError, match=rf"{file} is a link to a file that is not there, as an interrupted dow"):
            opened(FACE_PARSING)

    def test_pickled_weights_stand_in_for_a_link_to_nothing(self, layout, library, hub_cache):
        snapshot = hub_cache(FACE_PARSING, layout(files=("model.safetensors", "pytorch_model.bin")))
        (snapshot / "model.safetensors").resolve().unlink()
        torch.testing.assert_close(logits(opened(FACE_PARSING)[0]), expected(library()), rtol=0, atol=1e-6)

    def test_a_cache_whose_snapshot_is_gone(self, layout, hub_cache):
        shutil.rmtree(hub_cache(FACE_PARSING, layout()))
        with pytest.raises(UserError, match=rf"nothing is at {FACE_PARSING}, neither here nor in the model hub's cac"):
            opened(FACE_PARSING)

    def test_a_card_of_ours_is_not_contradicted(self, tiny_checkpoint):
        for key, value, own in (("label_space", "segface", "celebamask"), ("input_size", 96, "64")):
            with pytest.raises(UserError, match=rf"parser.{key}={value} contradicts .*, which has {own}; drop it"):
                opened(tiny_checkpoint, **{key: value})

    @pytest.mark.parametrize("key", ["label_space", "input_size"])
    def test_keys_of_a_published_parser_need_one(self, key):
        plain = config.ParserConfig.trained(None).model_dump() | {key: "lapa" if key == "label_space" else 64}
        with pytest.raises(ValueError, match=rf"parser.{key} is of a published parser; name it with parser.checkpoint"):
            config.ParserConfig(**plain)


BACKBONES = {"convnext": "convnext_base", "swinb": "swin_base", "swinv2b": "swinv2_base"}
FOLDERS = [p.id.rpartition("/")[2] for p in PUBLIC_PARSERS.values() if p.id.startswith("kartiknarayan/SegFace/")]


@pytest.fixture(scope="module")
def archive(filled):
    """``archive(file)``: SegFace's file for LaPa as its training wrote it, with the optimizer's state and schedule."""
    state = filled("segface_lapa_mobilenet")

    def write(file):
        one = torch.zeros(1)
        moments = {i: {"step": torch.tensor(9.0), "exp_avg": one, "exp_avg_sq": one} for i, _ in enumerate(state)}
        groups = [{"lr": 1e-6, "betas": (0.9, 0.999), "weight_decay": 1e-5, "params": list(range(len(state)))}]
        file.parent.mkdir(parents=True, exist_ok=True)
        contents = {
            "epoch": 299,
            "iteration": 226_500,
            "state_dict_backbone": collections.OrderedDict(state),
            "optimizer": {"state": moments, "param_groups": groups},
            "scheduler": {"milestones": collections.Counter({80: 1, 200: 1}), "gamma": 0.1, "last_epoch": 300},
        }
        torch.save(contents, file)
        return file

    return write


class TestSegFace:
    def test_all_fourteen_names_say_architecture_space_and_size(self, tmp_path):
        assert len(FOLDERS) == len(set(FOLDERS)) == 14
        for folder in FOLDERS:
            backbone, data, size = folder.split("_")
            found = read_name(tmp_path / folder / "model_299.pt")
            space = {"celeba": "segface", "lapa": "lapa", "helen": "helen"}[data]
            name = f"segface_{BACKBONES.get(backbone, backbone)}"
            assert (found.name, found.label_space, found.input_size) == (name, space, int(size))

    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("swin_base_celeba_512/model_299.pt", ("segface_swin_base", "segface", 512)),
            ("weights/swinb_celeb_448.pt", ("segface_swin_base", "segface", 448)),
            ("swinb_lapa_224/swinb_helen_512.pt", ("segface_swin_base", "helen", 512)),
            ("SegFace/lapa_256.pth", (None, "lapa", 256)),
            ("model/model_299.pt", (None, None, None)),
            ("lapa/model.pt", (None, None, None)),
        ],
    )
    def test_names_of_files_stand_above_those_of_folders(self, path, found, tmp_path):
        said = read_name(tmp_path / path)
        assert (said.name, said.label_space, said.input_size) == found

    def test_by_file_by_folder_in_the_cache_and_by_id(self, archive, tmp_path, hub_cache):
        name = "mobilenet_lapa_64"
        file = archive(tmp_path / "weights" / name / "model_299.pt")
        snapshot = hub_cache("kartiknarayan/SegFace", tmp_path / "weights")
        id_ = f"kartiknarayan/SegFace/{name}"
        assert resolve(file.parent) == file
        assert resolve(id_) == resolve(snapshot / name) == snapshot / name / "model_299.pt"
        net, card, digest = opened(id_)
        assert (card.name, card.label_space, card.input_size) == ("segface_mobilenet", "lapa", 64)
        assert card.uses_landmarks
        assert card.training["read_from"] == dict.fromkeys(("label_space", "input_size"), f"the name {name}")
        other, card, another = opened(shutil.copy(file, tmp_path / "mobilenet_helen_64.pt"))
        assert (card.label_space, card.uses_landmarks) == ("helen", False)
        assert another != digest, "the same weights used otherwise are another parser"
        with torch.inference_mode():
            assert torch.equal(net(X), other(X))

    def test_renamed_and_moved(self, archive, tmp_path):
        """What a name does not say is asked for, or has one answer; the keys stand above a name."""
        file = archive(tmp_path / "model.pt")
        with pytest.raises(UserError, match=r"model.pt is a bare weights file; name its architecture with parser=NAME"):
            load_published(None, file)
        with pytest.raises(UserError, match=r"its 11 classes may be those of lapa or helen, .*; set parser.label_"):
            load_published("segface_mobilenet", file)
        _, card = load_published("segface_mobilenet", file, "helen")
        assert (card.label_space, card.input_size) == ("helen", 512)
        with pytest.raises(UserError, match=r"segface_swin_base was released for 224, 256, 448, 512 px, .*parser.in"):
            load_published("segface_swin_base", file, "lapa")
        wrong = shutil.copy(file, tmp_path / "swinb_celeba_224.pt")
        with pytest.raises(UserError, match=r"the weights have 11 classes, label space 'segface' has 19; set label_sp"):
            load_published(None, wrong)
        _, card = load_published("segface_mobilenet", wrong, "lapa", 96)
        assert (card.label_space, card.input_size) == ("lapa", 96)
        assert card.training["read_from"]["label_space"] == "parser.label_space"

    def test_a_list_of_classes_is_for_heads_with_a_row_a_class(self, archive, tmp_path):
        with pytest.raises(UserError, match=r"parser.label_space: .* takes the name of a label space, got a list"):
            load_published("segface_mobilenet", archive(tmp_path / "a.pt"), ["skin"])


def test_a_published_parser_is_kept_as_ours(layout, tmp_path):
    from semfacediff.parsing import save_parser

    net, card, _ = opened(layout(classes=EARLIER))
    save_parser(net, card, tmp_path / "ours")
    again, kept = load_parser(tmp_path / "ours")
    assert (kept.name, kept.training) == (card.name, card.training)
    assert torch.equal(logits(again), logits(net))
