"""The editing benchmark as the thesis's listing does it: one photo at a time, one thing after another.

A straightforward transcription of the procedure, kept here alone, as what to compare with: for each attribute the photo
is read, resized and parsed anew, each score is computed by the library that publishes it, and the prompt is embedded
for each photo. ``strict`` is the same procedure with that protocol's definitions. Seam, geometry and leakage were
published by nobody else; they are computed by this package's functions, after the others.
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.metrics import structural_similarity

from semfacediff.labels import CELEBAMASK, attribute_indices
from semfacediff.metrics.base import EditPair, Metric
from semfacediff.metrics.clip import CLIP
from semfacediff.metrics.perceptual import LPIPS
from semfacediff.parsing import ModelParser

SIZE = 1024
PIXEL_SCORES = ("ssim", "psnr_outside", "max_abs_outside")


class PlainEditing:
    """Scores the edits of ``edit(photo, mask)``, float32 ``[3, H, W]`` and bool ``[H, W]`` in, float32 out.

    Args:
        photos: files. parser: whose network and normalisation are used. prompts: attribute -> prompt.
        lpips, clip: whose networks are used; ``None``: not scored. more: of this package, one after another.
    """

    def __init__(self, protocol, photos, parser: ModelParser, edit, prompts, lpips, clip, more):
        self.protocol, self.photos, self.parser, self.edit, self.prompts = protocol, photos, parser, edit, prompts
        self.lpips: LPIPS | None = lpips
        self.clip: CLIP | None = clip
        self.more: list[Metric] = more

    def rows(self, out: Path) -> Iterator[dict]:
        """One dict of scores a photo and attribute; the edits are saved in ``out``."""
        for attribute, prompt in self.prompts.items():
            for file in self.photos:
                yield {"sample_id": file.stem, "attribute": attribute} | self._row(file, attribute, prompt, out)

    def _row(self, file: Path, attribute: str, prompt: str, out: Path) -> dict:
        photo = Image.open(file, formats=("JPEG", "PNG")).convert("RGB")
        if self.protocol == "thesis":
            photo = photo.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        photo = np.array(photo)
        labels = self.parse(photo)
        region = np.isin(labels, attribute_indices(attribute, CELEBAMASK))
        hard, soft = self._masks(region)
        made = self.edit(torch.from_numpy(photo).permute(2, 0, 1).float() / 255, torch.from_numpy(hard > 0))
        raw = (made.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        final = raw
        if self.protocol == "strict":
            weight = (soft / np.float32(255))[..., None]
            final = np.where(weight == 0, photo, np.rint(photo * (1 - weight) + raw * weight).astype(np.uint8))
        Image.fromarray(final).save(out / f"{file.stem}_{attribute}.png")
        scores = self._scores(photo, final, soft, region, labels, attribute, prompt)
        same = np.array_equal(raw, final)
        raw_scores = scores if same else self._scores(photo, raw, soft, region, labels, attribute, prompt)
        return scores | {f"{name}_raw": value for name, value in raw_scores.items()}

    @torch.inference_mode()
    def parse(self, photo: np.ndarray) -> np.ndarray:
        """int64 ``[H, W]``."""
        side = self.parser.card.input_size
        x = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
        x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        logits = self.parser.model((x - self.parser._mean) / self.parser._std)
        return F.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False).argmax(1)[0].numpy()

    def _masks(self, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask, scale = region.astype(np.uint8) * 255, max(region.shape) / SIZE
        if self.protocol == "strict":
            radius = round(3 * scale)
            mask = cv2.dilate(mask, np.ones((2 * radius + 1,) * 2, np.uint8))
        kernel = 2 * round(7 * scale) + 1
        return mask, cv2.GaussianBlur(mask, (kernel, kernel), 7 * scale)

    def _scores(self, photo, edit, soft, region, labels, attribute, prompt) -> dict:
        outside = soft < 128 if self.protocol == "thesis" else soft == 0
        after = self.parse(edit)
        found = np.isin(after, attribute_indices(attribute, CELEBAMASK))
        scores = self._pixel_scores(photo, edit, outside)
        union = (region | found).sum()
        scores["iou"] = (region & found).sum() / union if union else (0.0 if self.protocol == "thesis" else None)
        if self.lpips is not None:
            scores["lpips"] = self._lpips(photo, edit, outside)
        if self.clip is not None:
            scores["clip"] = self._clip(edit, prompt)
        pair = EditPair(photo, edit, soft, region, found, prompt, attribute, labels, after)
        for metric in self.more:
            scores |= metric.score(pair)
        return scores

    def _pixel_scores(self, photo: np.ndarray, edit: np.ndarray, outside: np.ndarray) -> dict:
        gray, edit_gray = (np.array(Image.fromarray(x).convert("L")) for x in (photo, edit))
        if self.protocol == "thesis":
            ssim = structural_similarity(gray * outside, edit_gray * outside, data_range=255)
        else:
            inner = cv2.erode(outside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            ssim = structural_similarity(gray, edit_gray, data_range=255, full=True)[1][inner].mean()
        difference = photo[outside].astype(np.float64) - edit[outside]
        error = (difference**2).mean()
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        return {"ssim": ssim, "psnr_outside": psnr, "max_abs_outside": np.abs(difference).max()}

    @torch.inference_mode()
    def _lpips(self, photo: np.ndarray, edit: np.ndarray, outside: np.ndarray) -> float:
        a, b = (torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (photo, edit))
        if self.protocol == "thesis":
            mask = torch.from_numpy(outside)
            return self.lpips.net(a * mask, b * mask).item()
        return self.lpips.net(a, b)[0, 0].numpy()[outside].mean(dtype=np.float64)

    @torch.inference_mode()
    def _clip(self, edit: np.ndarray, prompt: str) -> float:
        image = self.clip.net.encode_image(self.clip.preprocess(Image.fromarray(edit))[None], normalize=True)
        text = self.clip.net.encode_text(self.clip.tokenizer([prompt]), normalize=True)
        return (image @ text.T).item()
