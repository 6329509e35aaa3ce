"""The Inception network of FID and KID: pytorch-fid's, without its download."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from semfacediff.errors import UserError

FEATURES = 2048
SIZE = 299
AT_ONCE = 32


class Inception:
    """Features of the last pooling layer of pytorch-fid's InceptionV3.

    A photo is resized to 299 x 299 in float32 as pytorch-fid does: bilinear, corners not aligned, no antialiasing.

    Args:
        state: contents of ``pt_inception-2015-12-05-6726825d.pth``, or ``None`` for random weights (tests only).
        weights: how the record names it.
        device: where it runs.

    Raises:
        UserError: the state dict is of another network.
    """

    def __init__(self, state: Mapping[str, Tensor] | None, weights: str, device: torch.device):
        self.weights, self.device = weights, device
        self.at_once = 1 if device.type == "cpu" else AT_ONCE
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # random weights, where asked for, are at least the same ones
            net = _assembled()
            if state is None:
                _initialise(net)
        if state is not None:
            _load(net, state)
        net.fc = nn.Identity()
        self.net = net.eval().to(device)

    def features(self, photos: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """float32 ``[2048]`` for each uint8 ``[H, W, 3]`` photo, in order; sizes may differ.

        On the CPU each photo goes through the network alone: its features cannot depend on its neighbours, hence not on
        the batch size or on which part of a data set it was measured with. On an accelerator ``at_once`` go together.
        """
        photos = iter(photos)
        while group := list(itertools.islice(photos, self.at_once)):
            yield from self._features(group)

    @torch.inference_mode()
    def _features(self, photos: Sequence[np.ndarray]) -> np.ndarray:
        return self.net(torch.cat([2 * self._resized(photo) - 1 for photo in photos])).cpu().numpy()

    def _resized(self, photo: np.ndarray) -> Tensor:
        """float32 ``[1, 3, 299, 299]`` in [0, 1]."""
        x = torch.from_numpy(np.array(photo)).to(self.device).permute(2, 0, 1)[None].float() / 255
        return nn.functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False)


def _assembled() -> nn.Module:
    """torchvision's Inception3 with the blocks that pytorch-fid 0.3.0 puts in (its ``fid_inception_v3``)."""
    from pytorch_fid import inception as fid
    from torchvision.models.inception import Inception3  # a second of imports, which few runs need

    net = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    net.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
    net.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
    net.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
    net.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
    net.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
    net.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
    net.Mixed_7b = fid.FIDInceptionE_1(1280)
    net.Mixed_7c = fid.FIDInceptionE_2(2048)
    return net


def _initialise(net: nn.Module) -> None:
    """With torch's default the signal dies on the way through so many layers."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)


def _load(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        net.load_state_dict(state)
    except (RuntimeError, AttributeError) as e:
        reason = str(e).splitlines()[-1].strip()[:160]
        raise UserError(
            f"weights.inception: not pytorch-fid's Inception state dict ({reason}); torchvision's own Inception is "
            f"another network, take pt_inception-2015-12-05-6726825d.pth"
        ) from e
