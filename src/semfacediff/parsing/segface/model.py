"""The whole of SegFace."""

import torch.nn.functional as F
from torch import Tensor, nn

from semfacediff.parsing.segface.backbones import Backbone, spec
from semfacediff.parsing.segface.decoder import Decoder
from semfacediff.parsing.segface.fusion import WIDTH, Projection, RandomFourier, fused
from semfacediff.parsing.segface.warp import TanhWarp

STRIDE = 32


class SegFace(nn.Module):
    """Normalised float32 [N,3,H,W] -> logits [N,classes,H,W]; any H, W.

    Sides that 32 does not divide are continued by their last row and column, and the logits are cropped again.

    Models for LaPa are given ``landmarks`` as well, float32 [N,5,2] in px of the input: left eye, right eye, tip of the
    nose, left and right corner of the mouth (left in the photo). Input and logits then go through the RoI tanh warp.

    Args:
        backbone: a key of :data:`semfacediff.parsing.segface.backbones.BACKBONES`.
        classes: 19 (CelebAMask-HQ) or 11 (LaPa, Helen).
        aligned_warp: pixel centres are in one place throughout the warp. ``False``, as the released models have been
            trained: half a pixel off, twice.
    """

    encoder = ("backbone",)

    def __init__(self, backbone: str, classes: int = 19, aligned_warp: bool = False):
        super().__init__()
        self.aligned_warp = aligned_warp
        self.backbone = Backbone(backbone)
        self.pe_layer = RandomFourier()
        self.face_decoder = Decoder(classes)
        self.linear_c = nn.ModuleList(Projection(width) for width in spec(backbone).widths)
        self.linear_fuse = nn.Conv2d(len(self.linear_c) * WIDTH, WIDTH, 1, bias=False)

    def forward(self, x: Tensor, landmarks: Tensor | None = None) -> Tensor:
        if landmarks is None:
            return self._logits(x)
        warp = TanhWarp.of(landmarks, tuple(x.shape[-2:]), self.aligned_warp)
        return warp.back(self._logits(warp.into_square(x)))

    def _logits(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        below, right = -height % STRIDE, -width % STRIDE
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        image = fused(self.backbone(x), self.linear_c, self.linear_fuse)
        position = self.pe_layer(*image.shape[1:3])
        logits = self.face_decoder(image, position.to(image.dtype))
        return logits[..., :height, :width]
