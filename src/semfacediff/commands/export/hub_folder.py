"""A trained parser in the layout of the model hub, for users of transformers, and its upload."""

import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from semfacediff.errors import UserError
from semfacediff.labels import space
from semfacediff.parsing.checkpoint import WEIGHTS, ParserCard
from semfacediff.parsing.segformer import SegFormer
from semfacediff.parsing.segformer_folder import CONFIG, PREPROCESSOR, SIZES

CARD = "README.md"


def write_hub_folder(model: SegFormer, card: ParserCard, new: Path) -> None:
    """Write what ``SegformerForSemanticSegmentation.from_pretrained`` and ``pipeline`` read into the folder ``new``.

    Tensors have their published names, which every release of transformers reads.
    """
    from transformers import SegformerConfig, SegformerImageProcessor

    geometry = SIZES[card.name.removeprefix("segformer_")].config()
    architecture = ["SegformerForSemanticSegmentation"]
    SegformerConfig(**geometry, **_classes(card), architectures=architecture).save_pretrained(new)
    side = {"height": card.input_size, "width": card.input_size}
    mean, std = list(card.mean), list(card.std)
    SegformerImageProcessor(size=side, image_mean=mean, image_std=std, do_reduce_labels=False).save_pretrained(new)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, new / WEIGHTS, metadata={"format": "pt"})


def write_side_files(card: ParserCard, new: Path) -> None:
    """Class names and preprocessing beside a graph, in the words of the hub's files."""
    classes = {"architectures": [card.name], "num_labels": space(card.label_space).n, **_classes(card)}
    side = {"height": card.input_size, "width": card.input_size}
    prepared = {"do_resize": True, "size": side, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    prepared |= {"image_mean": list(card.mean), "image_std": list(card.std)}
    for name, plain in ((CONFIG, classes), (PREPROCESSOR, prepared)):
        (new / name).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def write_model_card(card: ParserCard, own: Path | None, new: Path) -> None:
    """``README.md``: the parser's own card if it has one, else what its training says."""
    if own is not None and own.is_file():
        text = own.read_text("utf-8")
    else:
        facts = "\n".join(f"- {key}: {value}" for key, value in card.training.items() if key != "exported")
        text = (
            f"# {card.name}\n\nA face parser with the {space(card.label_space).n} classes of {card.label_space}, "
            f"trained with semfacediff at {card.input_size} px.\n\n## Training\n\n{facts}\n\n## Limits\n\n"
            f"Not evaluated yet: run `semfacediff evaluate task=parsing parser.checkpoint=FOLDER`.\n"
        )
    front = "---\nlibrary_name: transformers\npipeline_tag: image-segmentation\ntags: [face-parsing]\n---\n"
    (new / CARD).write_text(front + text, encoding="utf-8")


def push(folder: Path, name: str) -> str:
    """Upload ``folder`` as the model ``name`` after a question; returns its address.

    Raises:
        UserError: no login, the user declines, or the hub refuses.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise UserError(
            f"--push {name}: no login on the model hub; run 'hf auth login' or set HF_TOKEN; {_kept(folder, name)}"
        )
    api, size = HfApi(), sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(f"Upload {folder} ({size:.1f} MB) as {name} to {api.endpoint}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"--push {name}: not confirmed; {_kept(folder, name)}")
    try:
        api.create_repo(name, exist_ok=True, private=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except (HfHubHTTPError, ValueError, OSError) as e:
        reason = " ".join(str(e).split())[:200]
        raise UserError(f"--push {name}: the hub refused it ({reason}); {_kept(folder, name)}") from e
    return f"{api.endpoint}/{name}"


def _kept(folder: Path, name: str) -> str:
    return f"{folder} is complete, 'hf upload {name} {folder}' sends it later"


def _classes(card: ParserCard) -> dict[str, dict]:
    names = space(card.label_space).classes
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
