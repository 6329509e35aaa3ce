"""How far the deviations of protocol=thesis from the thesis's listing move its numbers.

    SEMFACEDIFF_DATA=DIR python benchmarks/listing_deviations.py [--photos 50]

Label maps: the first photos of the shards in DIR whose id is a multiple of 20, brought to 1024 px, parsed by the
shipped parser (a) as an evaluation does and (b) as the listing does: the photo shrunk by Pillow in 8 bits, the
network's coarse logits enlarged once. The rest follows from ids, from results/published and from the record
results/runs/recolor_thesis.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from semfacediff import config
from semfacediff.data.opening import open_data
from semfacediff.hydra_app import composed
from semfacediff.labels import CELEBAMASK
from semfacediff.parsing import ModelParser
from semfacediff.parsing.opening import open_parser
from semfacediff.regions import attribute_region
from semfacediff.regions.masks import MIN_COVERAGE
from semfacediff.types import to_tensor

SIDE = 1024
ATTRIBUTES = ("hair", "lips", "skin", "eyes", "eyebrows")


@torch.inference_mode()
def as_listed(parser: ModelParser, photo: np.ndarray, enlarge_once: bool = True) -> torch.Tensor:
    """int64 ``[H, W]`` of a uint8 ``[H, W, 3]`` photo, prepared as transformers' image processor does with Pillow."""
    size = (parser.card.input_size,) * 2
    small = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))
    if not enlarge_once:
        return parser.label_map(parser.logits(to_tensor(small)[None]), photo.shape[:2])[0]
    logits = parser._coarse(to_tensor(small)[None])
    return F.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False).argmax(1)[0]


def label_maps(photos: int) -> None:
    """Prints how many labels differ, and how the five regions of both label maps overlap."""
    words = ["data=shards", "data.split_rule.modulo=20", "data.split=val", "editor=identity", "runtime.device=cpu"]
    settings = config.typed(composed("evaluate", words, config.repository()), config.EditingEvaluation)
    faces = open_data(settings.data, labels_needed=False, limit=photos).faces
    parser, _ = open_parser(settings.parser, CELEBAMASK, torch.device("cpu"))
    other, resized, overlap = [], [], defaultdict(list)
    for i in range(len(faces)):
        photo = np.asarray(Image.fromarray(faces[i].photo).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        ours = parser.predict(to_tensor(photo)[None])[0]
        listed = as_listed(parser, photo)
        other.append((ours != listed).float().mean().item())
        resized.append((ours != as_listed(parser, photo, enlarge_once=False)).float().mean().item())
        for attribute in ATTRIBUTES:
            a, b = (attribute_region(labels, attribute, CELEBAMASK) for labels in (ours, listed))
            if b.mean() >= MIN_COVERAGE:
                overlap[attribute].append((a & b).sum() / (a | b).sum())
    print(f"{len(faces)} photos, {faces.ids[0]} to {faces.ids[-1]}")
    print(f"labels that differ: {100 * np.mean(other):.3f} %, of the resize alone {100 * np.mean(resized):.3f} %")
    for attribute, values in overlap.items():
        print(f"{attribute}: region IoU mean {np.mean(values):.4f}, least {min(values):.4f}, n {len(values)}")


def statistics(repository: Path) -> None:
    """Prints what ddof and the median change."""
    published = pd.read_csv(repository / "results" / "published" / "semfacediff_table_6_1.csv")
    factor = np.sqrt(100 / 99)
    print(f"ddof 1 instead of 0 at n = 100: sd x {factor:.4f}, of the published sd at most")
    for column in (c for c in published if c.endswith("_sd")):
        print(f"  {column} {published[column].max() * (factor - 1):.4f}")
    rows = pd.read_parquet(repository / "results" / "runs" / "recolor_thesis" / "samples.parquet")
    latency = rows["latency_s"].dropna()
    print(f"latency of {len(latency)} edits: median {latency.median():.3f} s, mean {latency.mean():.3f} s")


def order(taken: int = 100) -> None:
    """Prints how the first photos change where every other file is a PNG."""
    names = [(f"{i:05d}", "jpg" if k % 2 == 0 else "png") for k, i in enumerate(range(0, 5000, 20))]
    listed = [n for suffix in ("jpg", "png") for n in names if n[1] == suffix][:taken]
    print(f"every other file a PNG: {taken - len(set(listed) & set(names[:taken]))} of the first {taken} are others")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=50)
    order()
    statistics(config.repository())
    label_maps(parser.parse_args().photos)


if __name__ == "__main__":
    main()
