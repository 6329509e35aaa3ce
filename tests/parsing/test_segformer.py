"""SegFormer B0 to B5: published names and sizes, the library's numbers, starts from published weights, class orders."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, SPACES
from semfacediff.parsing import ParserCard, build_parser, from_published, load_parser, save_parser
from semfacediff.parsing.checkpoint import checkpoint_digest, load_published, read_card, resolve
from semfacediff.parsing.opening import new_parser, start_weights
from semfacediff.parsing.registry import IMAGENET_MEAN, IMAGENET_STD
from semfacediff.parsing.segformer_folder import SIZES, start_digest, start_from

HEAD = "decode_head.classifier."


@pytest.fixture(scope="module")
def library():
    """The library's own B0 with 19 classes, in eval mode; batch norm has seen something."""
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = SegformerForSemanticSegmentation(SegformerConfig(num_labels=19))
        net.train()(torch.randn(2, 3, 64, 64))
    return net.eval()


@pytest.fixture(scope="module")
def layout(library, tmp_path_factory):
    """What the library writes of it: the layout of released models."""
    folder = tmp_path_factory.mktemp("hub") / "b0"
    library.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def published(layout):
    return load_file(layout / "model.safetensors")


@pytest.fixture(scope="module")
def model(published):
    return from_published("segformer_b0", published)


@pytest.fixture
def released(layout, tmp_path):
    """``released(**config)``: a folder as the hub's, its configuration changed; ``weights=`` replaces the tensors."""

    def write(name="face", weights=None, drop=(), **changes):
        folder = shutil.copytree(layout, tmp_path / name)
        plain = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps({k: v for k, v in plain.items() if k not in drop}))
        if weights is not None:
            save_file(weights, folder / "model.safetensors")
        return folder

    return write


def named(classes):
    return {str(i): name for i, name in enumerate(classes)}


def photos(n=2, height=64, width=96, seed=0):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def logits(net, x):
    return net(x)


def parameters_by_hand(depths, widths, decoder, classes):
    """The paper's layers added up: convolutions and linear layers with biases, two norms a block, wide MLPs."""
    total, before = 0, 3
    for i, (depth, c) in enumerate(zip(depths, widths, strict=True)):
        kernel, reduction = (7, 3, 3, 3)[i], (8, 4, 2, 1)[i]
        embed = before * c * kernel**2 + c + 2 * c
        reduced = c * c * reduction**2 + c + 2 * c if reduction > 1 else 0
        mlp = c * 4 * c + 4 * c + 4 * c * 9 + 4 * c + 4 * c * c + c
        total += embed + depth * (4 * (c * c + c) + reduced + mlp + 4 * c) + 2 * c
        total += c * decoder + decoder
        before = c
    return total + 4 * decoder * decoder + 2 * decoder + decoder * classes + classes


class TestArchitecture:
    @pytest.mark.parametrize(
        ("name", "count"),
        [
            ("segformer_b0", 3_719_027),
            ("segformer_b1", 13_682_131),
            ("segformer_b2", 27_361_235),
            ("segformer_b3", 47_237_075),
            ("segformer_b4", 64_007_635),
            ("segformer_b5", 84_607_955),
        ],
    )
    def test_parameters(self, name, count):
        with torch.device("meta"):
            net = build_parser(name)
        size = SIZES[name.removeprefix("segformer_")]
        assert sum(p.numel() for p in net.parameters()) == count
        assert parameters_by_hand(size.depths, size.hidden_sizes, size.decoder_hidden_size, 19) == count

    def test_b5_has_the_published_keys(self):
        with torch.device("meta"):
            state = build_parser("segformer_b5").state_dict()
        for key, shape in {
            "segformer.encoder.patch_embeddings.0.proj.weight": (64, 3, 7, 7),
            "segformer.encoder.patch_embeddings.3.layer_norm.bias": (512,),
            "segformer.encoder.block.0.2.layer_norm_1.weight": (64,),
            "segformer.encoder.block.2.39.attention.self.query.weight": (320, 320),
            "segformer.encoder.block.2.39.attention.self.sr.weight": (320, 320, 2, 2),
            "segformer.encoder.block.1.5.attention.self.layer_norm.bias": (128,),
            "segformer.encoder.block.3.2.attention.output.dense.weight": (512, 512),
            "segformer.encoder.block.3.2.mlp.dense1.weight": (2048, 512),
            "segformer.encoder.block.3.2.mlp.dwconv.dwconv.weight": (2048, 1, 3, 3),
            "segformer.encoder.block.3.2.mlp.dense2.bias": (512,),
            "segformer.encoder.block.3.2.layer_norm_2.bias": (512,),
            "segformer.encoder.layer_norm.3.weight": (512,),
            "decode_head.linear_c.3.proj.weight": (768, 512),
            "decode_head.linear_fuse.weight": (768, 3072, 1, 1),
            "decode_head.batch_norm.running_var": (768,),
            "decode_head.classifier.weight": (19, 768, 1, 1),
        }.items():
            assert tuple(state.pop(key).shape) == shape
        prefixes = ("segformer.encoder.", "decode_head.")
        assert all(key.startswith(prefixes) for key in state)
        words = {part for key in state for part in key.split(".")}
        assert not words & {"stages", "q_proj", "fc1", "linear_projections", "layernorm_before"}

    def test_keys_and_numbers_are_those_that_the_library_writes(self, model, library, published):
        ours = model.state_dict()
        assert set(ours) == set(published)
        assert all(torch.equal(ours[k], v) for k, v in published.items())
        x = photos()
        with torch.inference_mode():
            expected = F.interpolate(library(x).logits, size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(logits(model, x), expected, rtol=0, atol=1e-6)

    def test_attention_is_the_fused_one_and_computes_the_same(self, model):
        x, choice = photos(1), model.segformer.config
        assert choice._attn_implementation == "sdpa"
        fused = logits(model, x)
        choice._attn_implementation = "eager"
        try:
            plain = logits(model, x)
        finally:
            choice._attn_implementation = "sdpa"
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 50), (100, 75)])
    def test_logits_have_the_size_of_the_input(self, model, height, width):
        out = logits(model, photos(2, height, width))
        assert tuple(out.shape) == (2, 19, height, width)
        assert torch.isfinite(out).all()

    def test_a_photo_does_not_feel_its_neighbours(self, model):
        x = photos(3)
        together = logits(model, x.contiguous(memory_format=torch.channels_last))
        alone = torch.cat([logits(model, one) for one in x.split(1)])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)

    def test_copies_of_a_state_dict_are_interchangeable(self, model):
        """Averages of weights and resumed runs pair tensors by key."""
        other = build_parser("segformer_b0")
        prefixed = {f"module.{k}": v for k, v in model.state_dict().items()}
        assert torch.nn.ModuleDict({"module": other}).load_state_dict(prefixed)
        x = photos(1)
        assert torch.equal(logits(other.eval(), x), logits(model, x))

    def test_the_class_count_is_inferred(self, published):
        eleven = {**published, HEAD + "weight": torch.zeros(11, 256, 1, 1), HEAD + "bias": torch.zeros(11)}
        assert logits(from_published("segformer_b0", eleven, label_space="lapa"), photos(1)).shape[1] == 11
        with pytest.raises(UserError, match=r"segformer_b0: the weights have 11 classes, label space 'celebamask' has"):
            from_published("segformer_b0", eleven)

    def test_an_unknown_option(self):
        with pytest.raises(UserError, match=r"parser 'segformer_b0': .*unexpected keyword argument 'depth'"):
            build_parser("segformer_b0", depth=3)

    def test_a_bare_file(self, layout):
        net, card = load_published("segformer_b0", layout / "model.safetensors")
        assert (card.name, card.label_space, card.input_size) == ("segformer_b0", "celebamask", 512)
        assert (card.mean, card.std) == (IMAGENET_MEAN, IMAGENET_STD)
        assert not net.training


class TestTraining:
    def test_it_trains_on_a_batch_of_one(self):
        net = build_parser("segformer_b0").train()
        inside = {id(p) for name in net.encoder for p in getattr(net, name).parameters()}
        outside = {n for n, p in net.named_parameters() if id(p) not in inside}
        assert all(n.startswith("decode_head.") for n in outside)
        assert len(outside) == 13
        net(photos(1, 32, 32)).square().mean().backward()
        assert [n for n, p in net.named_parameters() if p.grad is None] == []

    def test_recomputing_blocks_gives_the_same_gradients(self, published):
        def trained(on):
            torch.manual_seed(5)
            net, runs = from_published("segformer_b0", published).checkpointed(on).train(), []
            normed = [m for n, m in net.named_modules() if n.endswith(("layernorm_before", "layer_norm_1"))]
            for m in normed:
                m.register_forward_hook(lambda *_: runs.append(1))
            net(photos()).square().mean().backward()
            return len(runs) / len(normed), [p.grad for p in net.parameters()]

        with torch.random.fork_rng():
            (once, kept), (twice, recomputed) = trained(False), trained(True)
        assert (once, twice) == (1, 2)
        for a, b in zip(kept, recomputed, strict=True):
            torch.testing.assert_close(a, b)

    def test_recomputing_can_be_switched_off_again(self, published):
        net, runs = from_published("segformer_b0", published).checkpointed(True).checkpointed(False).train(), []
        norm = next(m for n, m in net.named_modules() if n.endswith(("layernorm_before", "layer_norm_1")))
        norm.register_forward_hook(lambda *_: runs.append(1))
        net(photos(1)).mean().backward()
        assert len(runs) == 1


class TestStart:
    """``parser.pretrained``."""

    @pytest.fixture
    def ade(self, released, published):
        """A start with 150 classes."""
        head = {HEAD + "weight": torch.ones(150, 256, 1, 1), HEAD + "bias": torch.ones(150)}
        return released("ade", weights={**published, **head}, id2label=named(f"thing {i}" for i in range(150)))

    def settings(self, **changes):
        plain = {"name": "segformer_b0", "checkpoint": None, "root": None, "pretrained": None, "options": {}}
        plain |= {"backend": "torch", "precision": "float32", "label_space": None, "input_size": None}
        return config.ParserConfig(**plain | changes)

    def test_everything_but_the_head_is_taken(self, ade, published):
        torch.manual_seed(0)
        net, card = new_parser(self.settings(pretrained=str(ade)), SPACES["lapa"], 96)
        state = net.state_dict()
        assert all(torch.equal(state[k], v) for k, v in published.items() if not k.startswith(HEAD))
        assert state[HEAD + "weight"].shape == (11, 256, 1, 1)
        assert 0.01 < state[HEAD + "weight"].std() < 0.03, "drawn anew, as the library draws it"
        assert (card.name, card.label_space, card.input_size) == ("segformer_b0", "lapa", 96)
        assert start_weights(self.settings(pretrained=str(ade))) == start_digest("segformer_b0", str(ade))
        assert len(start_digest("segformer_b0", str(ade))) == 64

    def test_the_head_is_new_where_the_class_count_agrees_by_chance(self, layout, published):
        net = build_parser("segformer_b0")
        fresh = net.state_dict()[HEAD + "weight"].clone()
        start_from(net, "segformer_b0", str(layout))
        assert torch.equal(net.state_dict()[HEAD + "weight"], fresh)
        assert not torch.equal(fresh, published[HEAD + "weight"])

    def test_a_pickle_of_tensors_will_do(self, ade, published):
        torch.save(load_file(ade / "model.safetensors"), ade / "pytorch_model.bin")
        (ade / "model.safetensors").unlink()
        net = build_parser("segformer_b0")
        assert start_from(net, "segformer_b0", str(ade)).name == "pytorch_model.bin"
        key = "decode_head.linear_fuse.weight"
        assert torch.equal(net.state_dict()[key], published[key])

    def test_an_encoder_trained_for_classification_leaves_the_decoder(self, released, published):
        encoder = {k: v for k, v in published.items() if k.startswith("segformer.")}
        classifier = {"classifier.weight": torch.zeros(1000, 256), "classifier.bias": torch.zeros(1000)}
        net = build_parser("segformer_b0")
        fuse = net.state_dict()["decode_head.linear_fuse.weight"].clone()
        start_from(net, "segformer_b0", str(released(weights=encoder | classifier)))
        state = net.state_dict()
        assert all(torch.equal(state[k], v) for k, v in encoder.items())
        assert torch.equal(state["decode_head.linear_fuse.weight"], fuse)

    def test_another_size_is_refused_before_anything_is_loaded(self, ade):
        (ade / "model.safetensors").write_bytes(b"never read")
        with pytest.raises(UserError, match=r"parser.pretrained: .*ade is a segformer_b0; set parser=segformer_b0, or"):
            start_from(torch.nn.Identity(), "segformer_b5", str(ade))

    def test_what_else_does_not_fit_is_listed(self, released, published):
        state = {k: v for k, v in published.items() if k != "decode_head.linear_fuse.weight"}
        state |= {"decode_head.linear_c.0.proj.bias": torch.zeros(768), "auxiliary.weight": torch.zeros(2)}
        with pytest.raises(UserError) as caught:
            start_from(build_parser("segformer_b0"), "segformer_b0", str(released(weights=state)))
        assert str(caught.value).endswith(
            "model.safetensors: the weights do not fit this architecture: 1 missing keys "
            "(decode_head.linear_fuse.weight); 1 unexpected keys (auxiliary.weight); 1 mis-shaped keys "
            "(decode_head.linear_c.0.proj.bias [768] instead of [256])"
        )

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"depths": [1, 1, 1, 1]}, r"none of SegFormer's sizes b0 to b5 has {'depths': \[1, 1, 1, 1\], 'hidden_"),
            ({"num_attention_heads": [1, 2, 4, 8]}, r"sizes b0 to b5 has {'num_attention_heads': \[1, 2, 4, 8\]}"),
            ({"model_type": "bert"}, r"config.json: expected model_type 'segformer', got 'bert'; it is no SegFormer"),
        ],
    )
    def test_other_models_are_refused(self, released, changes, message):
        with pytest.raises(UserError, match=message):
            start_from(build_parser("segformer_b0"), "segformer_b0", str(released(**changes)))

    def test_nothing_is_there(self, tmp_path):
        net = build_parser("segformer_b0")
        with pytest.raises(
            UserError, match=r"parser.pretrained: no folder is at .*/none; expected one with config.json"
        ):
            start_from(net, "segformer_b0", str(tmp_path / "none"))
        with pytest.raises(
            UserError, match=r"parser.pretrained: .* holds no model.safetensors \(or pytorch_model.bin\)"
        ):
            start_from(net, "segformer_b0", str(tmp_path))
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(UserError, match=r"parser.pretrained: .* holds no config.json; copy the whole folder"):
            start_from(net, "segformer_b0", str(tmp_path))

    def test_a_name_on_the_hub_that_is_not_in_its_cache_says_how_to_fetch_it(self):
        with pytest.raises(
            UserError, match=r"^parser\.pretrained: nvidia/none@v1 is no folder here, and the hub's"
        ) as e:
            start_from(build_parser("segformer_b0"), "segformer_b0", "nvidia/none@v1")
        assert "fetch it with 'semfacediff fetch nvidia/none@v1', take a published start of segformer_b0 (" in str(
            e.value
        )
        assert "(nvidia/segformer-b0-finetuned-ade-512-512, nvidia/segformer-b0-finetuned-cityscapes-" in str(e.value)
        assert "\n" not in str(e.value)

    def test_a_name_on_the_hub_opens_from_its_cache_at_the_revision(self, ade, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        repository = tmp_path / "models--nvidia--start"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "v1").write_text("abc123")
        kept = repository / "snapshots" / "abc123"
        kept.mkdir(parents=True)
        (kept / "config.json").symlink_to(ade / "config.json")
        torch.save(load_file(ade / "model.safetensors"), kept / "pytorch_model.bin")
        (kept / "model.safetensors").symlink_to(tmp_path / "gone")
        for revision in ("v1", "abc123"):
            path = start_from(build_parser("segformer_b0"), "segformer_b0", f"nvidia/start@{revision}")
            assert path == kept / "pytorch_model.bin"
        # Without a reference to main the only snapshot is meant.
        assert start_from(build_parser("segformer_b0"), "segformer_b0", "nvidia/start") == kept / "pytorch_model.bin"

    def test_contradictions(self):
        with pytest.raises(ValueError, match=r"parser.pretrained and parser.checkpoint are two starts"):
            self.settings(pretrained="DIR", checkpoint="RUN")
        settings = self.settings(pretrained="DIR", name="unet_lite")
        for use in (lambda: start_weights(settings), lambda: new_parser(settings, CELEBAMASK, 64)):
            with pytest.raises(UserError, match=r"parser.pretrained: parser=unet_lite has none; choose a segformer"):
                use()


class TestReleasedParser:
    """``parser.checkpoint`` with a folder as the hub has it."""

    def test_it_opens_as_it_is(self, released, model):
        folder = released(id2label=named(CELEBAMASK.classes))
        sizes = {"size": {"height": 384, "width": 384}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
        assert resolve(folder) == folder
        net, card = load_parser(folder)
        read_from = {"label_space": "id2label", "input_size": "preprocessor_config.json"}
        said = {"read_from": read_from}
        assert card == ParserCard("segformer_b0", "celebamask", 384, (0.5,) * 3, (0.25,) * 3, training=said)
        x = photos(1)
        assert torch.equal(logits(net, x), logits(model, x))

    def test_unsaid_preparation_is_512_px_and_imagenets(self, released):
        card = read_card(released(id2label=named(CELEBAMASK.classes)))
        assert (card.input_size, card.mean, card.std) == (512, IMAGENET_MEAN, IMAGENET_STD)

    @pytest.mark.parametrize("space", ["segface", "zllrunning"])
    def test_the_order_of_the_classes_is_read_from_their_names(self, released, space):
        assert read_card(released(id2label=named(SPACES[space].classes))).label_space == space

    def test_an_order_of_nobody_is_brought_into_ours(self, released, model):
        backwards = CELEBAMASK.classes[::-1]
        net, card = load_parser(released(id2label=named(backwards)))
        assert card.label_space == "celebamask"
        x = photos(1)
        torch.testing.assert_close(logits(net, x), logits(model, x).flip(1), rtol=0, atol=1e-6)

    def test_nineteen_classes_without_names_are_taken_as_those_of_a_bare_file(self, layout, released):
        assert read_card(layout).label_space == "celebamask"
        assert read_card(released(drop=["id2label"])).label_space == "celebamask"

    def test_foreign_classes_are_refused(self, released):
        folder = released(id2label=named(["wall", "building", *CELEBAMASK.classes[2:]]))
        with pytest.raises(
            UserError, match=r"its 19 classes are those of no label space here \(not matched: wall, building; miss"
        ):
            load_parser(folder)

    def test_another_number_of_classes_than_named(self, released, published):
        head = {HEAD + "weight": torch.zeros(150, 256, 1, 1), HEAD + "bias": torch.zeros(150)}
        with pytest.raises(UserError, match=r"2 mis-shaped keys \(decode_head.classifier.weight \[150, 256, 1, 1\]"):
            load_parser(released(weights={**published, **head}, drop=["id2label"]))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                '{"size": {"height": 512, "width": 384}}',
                r"expected a square input size, got {'height': 512, 'width': 38",
            ),
            ('{"image_std": [0, 1, 1]}', r"unusable std: \(0, 1, 1\)"),
            ("{", r"preprocessor_config.json: not readable"),
            ("[]", r"preprocessor_config.json: expected settings by name, got a list"),
        ],
    )
    def test_an_unusable_preparation(self, released, text, message):
        folder = released()
        (folder / "preprocessor_config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_parser(folder)

    def test_missing_weights(self, released):
        folder = released()
        (folder / "model.safetensors").unlink()
        with pytest.raises(
            UserError,
            match=r"parser.checkpoint: .* has a config.json and no model.safetensors \(or pytorch_",
        ):
            load_parser(folder)

    def test_another_order_of_the_same_weights_is_another_parser(self, released):
        one = released("one", id2label=named(CELEBAMASK.classes))
        same = released("same", id2label=named(CELEBAMASK.classes))
        other = released("other", id2label=named(CELEBAMASK.classes[::-1]))
        assert checkpoint_digest(one) == checkpoint_digest(same) != checkpoint_digest(other)

    def test_it_can_be_trained_further_and_kept_as_ours(self, released, tmp_path):
        folder = released(id2label=named(CELEBAMASK.classes))
        settings = config.ParserConfig.trained(str(folder))
        net, card = new_parser(settings, CELEBAMASK, 64)
        save_parser(net, card, tmp_path / "ours")
        again, kept = load_parser(tmp_path / "ours")
        assert (kept.name, kept.input_size) == ("segformer_b0", 64)
        x = photos(1)
        assert torch.equal(logits(again, x), logits(net.eval(), x))
        assert set(load_file(tmp_path / "ours" / "model.safetensors")) == set(load_file(folder / "model.safetensors"))
