"""The whole of SegFace."""

import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.errors import UserError
from semfacediff.parsing.segface.backbones import Backbone, spec
from semfacediff.parsing.segface.decoder import Decoder
from semfacediff.parsing.segface.fusion import WIDTH, Projection, RandomFourier, fused
from semfacediff.parsing.segface.warp import TanhWarp

STRIDE = 32


class SegFace(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W.

    Sides that 32 does not divide are continued by their last row and column, and the logits are cropped again.

    Models for LaPa are given ``landmarks`` as well, float32 [N,5,2] in px of the input: left eye, right eye, tip of the
    nose, left and right corner of the mouth (left in the photo). Input and logits then go through the RoI tanh warp;
    photos whose landmarks are NaN do not.

    Args:
        backbone: a key of :data:`semfacediff.parsing.segface.backbones.BACKBONES`.
        classes: 19 (CelebAMask-HQ) or 11 (LaPa, Helen).
        aligned_warp: pixel centres are in one place throughout the warp. ``False``, as the released models have been
            trained: half a pixel off, twice.
        multi_scale: all four maps of the backbone make the decoder's. ``False``: the last one alone (an ablation).
    """

    encoder = ("backbone",)

    def __init__(self, backbone: str, classes: int = 19, aligned_warp: bool = False, multi_scale: bool = True):
        super().__init__()
        self.aligned_warp = aligned_warp
        self.backbone = Backbone(backbone)
        self.pe_layer = RandomFourier()
        self.face_decoder = Decoder(classes)
        self.linear_c = nn.ModuleList(Projection(width) for width in spec(backbone).widths[0 if multi_scale else -1 :])
        self.linear_fuse = nn.Conv2d(len(self.linear_c) * WIDTH, WIDTH, 1, bias=False)

    def forward(self, x: Tensor, landmarks: Tensor | None = None) -> Tensor:
        if landmarks is None:
            return self._logits(x)
        known = landmarks.isfinite().flatten(1).all(1)
        if known.all():
            warp = TanhWarp.of(landmarks, x.shape[-2:], self.aligned_warp)
            return warp.back(self._logits(warp.into_square(x)))
        return self._some_warped(x, landmarks, known) if known.any() else self._logits(x)

    def _some_warped(self, x: Tensor, landmarks: Tensor, known: Tensor) -> Tensor:
        """One pass of the network over warped and plain photos, so that batch norms see them together."""
        if x.shape[-2] != x.shape[-1]:
            raise UserError(
                f"segface: photos with and without landmarks in one batch must be square, got {x.shape[-1]}x"
                f"{x.shape[-2]} px; give them one after another"
            )
        warp = TanhWarp.of(landmarks[known], x.shape[-2:], self.aligned_warp)
        logits = self._logits(x.index_put((known,), warp.into_square(x[known])))
        return logits.index_put((known,), warp.back(logits[known]).to(logits))

    def _logits(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        below, right = -height % STRIDE, -width % STRIDE
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        maps = self.backbone(x)
        image = fused(maps[-len(self.linear_c) :], self.linear_c, self.linear_fuse, maps[0].shape[1:3])
        position = self.pe_layer(*image.shape[1:3])
        logits = self.face_decoder(image, position.to(image.dtype))
        return logits[..., :height, :width]
