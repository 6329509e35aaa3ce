"""SegFace written down line by line as its description states it, for comparison alone: outputs and time.

Nothing is reordered, fused or left out: four maps enlarged and concatenated before they are mixed, attention as
matrices of scores, the positional encoding at every place, transposed convolutions, the network behind the last map.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from semfacediff.parsing.segface.backbones import Spec, spec
from semfacediff.parsing.segface.decoder import FEATURES, HEADS, TOKENS
from semfacediff.parsing.segface.fusion import WIDTH


def plain_backbone(s: Spec) -> nn.Module:
    """torchvision's network without its classifier."""
    net = get_model(s.network, weights=None)
    return net.features if "" in s.parts.values() else nn.Sequential(*list(net.children())[:-1])


class Tapped(nn.Module):
    """The maps, caught by hooks while the whole network runs."""

    def __init__(self, s: Spec):
        super().__init__()
        self.net, self.caught = plain_backbone(s), []
        inner = self.net[0] if s.parts.get("features") == "0" else self.net
        for position in s.taps:
            inner[position].register_forward_hook(lambda _m, _x, y: self.caught.append(y))
        self.channels_last = s.channels_last

    def forward(self, x: Tensor) -> list[Tensor]:
        self.caught.clear()
        self.net(x)
        return [m.permute(0, 3, 1, 2) if self.channels_last else m for m in self.caught]


class PlainSegFace:
    """``plain(x)``: logits with the weights of a SegFace's state dict."""

    def __init__(self, backbone: str, state: dict[str, Tensor], classes: int = 19):
        self.state = state
        self.names = torch.cat([state[f"face_decoder.{n}_token.weight"] for n in TOKENS[classes]])
        self.tapped = Tapped(spec(backbone)).eval()
        trunk = {k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")}
        self.tapped.net.load_state_dict(trunk)

    def linear(self, x: Tensor, key: str) -> Tensor:
        return F.linear(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"])

    def norm(self, x: Tensor, key: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{key}.weight"], self.state[f"{key}.bias"], 1e-5)

    def attention(self, key: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (self.linear(x, f"{key}.{name}_proj") for x, name in ((q, "q"), (k, "k"), (v, "v")))
        q, k, v = (x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2) for x in (q, k, v))
        scores = q @ k.permute(0, 1, 3, 2) / math.sqrt(q.shape[-1])
        mixed = torch.softmax(scores, dim=-1) @ v
        return self.linear(mixed.transpose(1, 2).reshape(mixed.shape[0], mixed.shape[2], -1), f"{key}.out_proj")

    def fusion(self, maps: list[Tensor]) -> Tensor:
        same = []
        for i, m in enumerate(maps):
            flat = self.linear(m.flatten(2).transpose(1, 2), f"linear_c.{i}.proj")
            square = flat.permute(0, 2, 1).reshape(m.shape[0], WIDTH, *m.shape[-2:])
            same.append(F.interpolate(square, size=maps[0].shape[-2:], mode="bilinear", align_corners=False))
        return F.conv2d(torch.cat(same[::-1], dim=1), self.state["linear_fuse.weight"])

    def position(self, h: int, w: int) -> Tensor:
        ones = torch.ones(h, w)
        p = torch.stack([(ones.cumsum(1) - 0.5) / w, (ones.cumsum(0) - 0.5) / h], dim=-1)
        angle = 2 * math.pi * ((2 * p - 1) @ self.state["pe_layer.positional_encoding_gaussian_matrix"])
        return torch.cat([angle.sin(), angle.cos()], dim=-1).permute(2, 0, 1)

    def transformer(self, image: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        places, at = image.flatten(2).permute(0, 2, 1), position.flatten(1).T
        names = self.names.expand(len(image), -1, -1)
        tokens, base = names, "face_decoder.transformer"
        for i in range(2):
            layer = f"{base}.layers.{i}"
            if i == 0:
                tokens = self.attention(f"{layer}.self_attn", tokens, tokens, tokens)
            else:
                tokens = tokens + self.attention(f"{layer}.self_attn", tokens + names, tokens + names, tokens)
            tokens = self.norm(tokens, f"{layer}.norm1")
            seen = self.attention(f"{layer}.cross_attn_token_to_image", tokens + names, places + at, places)
            tokens = self.norm(tokens + seen, f"{layer}.norm2")
            inner = self.linear(F.relu(self.linear(tokens, f"{layer}.mlp.lin1")), f"{layer}.mlp.lin2")
            tokens = self.norm(tokens + inner, f"{layer}.norm3")
            seen = self.attention(f"{layer}.cross_attn_image_to_token", places + at, tokens + names, tokens)
            places = self.norm(places + seen, f"{layer}.norm4")
        seen = self.attention(f"{base}.final_attn_token_to_image", tokens + names, places + at, places)
        return self.norm(tokens + seen, f"{base}.norm_final_attn"), places

    def upscaling(self, image: Tensor) -> Tensor:
        key = "face_decoder.output_upscaling"
        x = F.conv_transpose2d(image, self.state[f"{key}.0.weight"], self.state[f"{key}.0.bias"], stride=2)
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        x = self.state[f"{key}.1.weight"][:, None, None] * x + self.state[f"{key}.1.bias"][:, None, None]
        x = F.gelu(x)
        return F.gelu(F.conv_transpose2d(x, self.state[f"{key}.3.weight"], self.state[f"{key}.3.bias"], stride=2))

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        image = self.fusion(self.tapped(x))
        n, c, h, w = image.shape
        tokens, places = self.transformer(image, self.position(h, w))
        pixels = self.upscaling(places.transpose(1, 2).reshape(n, c, h, w))
        for i in range(3):
            tokens = self.linear(tokens, f"face_decoder.output_hypernetwork_mlps.layers.{i}")
            tokens = F.relu(tokens) if i < 2 else tokens
        return (tokens @ pixels.reshape(n, FEATURES, -1)).reshape(n, -1, *pixels.shape[-2:])
