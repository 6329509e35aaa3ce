"""Faces from label maps: SCA-DM, a latent diffusion model with one style token a class of the label map.

The model (:mod:`.model`, :mod:`.checkpoint`, :mod:`.published`)::

    model = SCADM(PRESETS["small"])                     # or SCADMOptions(...); SCADMOptions() is the paper's
    model, card = load_synthesis(folder)                # save_synthesis(model, folder, label_space, training)
    model = from_checkpoint(read_weights(file))         # a released training checkpoint
    part = from_published("unet", hyper_parameters, state_dict)

    mask = one_hot(labels, 19)                          # int64 [N,H,W] -> float32 [N,K,H,W]
    latents = model.first_stage.encode(images)          # images in [-1,1] -> latents before quantisation
    tokens = model.style_encoder(images, mask)          # [N,K,L*D]; zero images = no style
    said = model.unet(noisy, t, tokens, mask)           # the noise, or what options.prediction says
    said = model(noisy, t, images, mask, dropped=which)  # style encoder and denoiser in one call, for training
    images = model.first_stage.decode(latents)          # quantises first

The first stage is frozen (``requires_grad`` off, eval mode). So is what a one-hot mask leaves without effect: queries
and keys of the cross-attention. ``model.unet.checkpointing`` saves memory in training. ``trained_null`` needs samples
whose tokens and mask are zero (``dropped``), ``absent_token`` needs parts left out of ``style_mask``.

Images are in [-1,1] inside the model and in [0,1] in :mod:`.tasks`, where ids, label spaces and sizes are checked.
"""

from semfacediff.synthesis.checkpoint import SynthesisCard, load_synthesis, read_synthesis_card, save_synthesis
from semfacediff.synthesis.first_stage import FirstStage
from semfacediff.synthesis.layouts import one_hot
from semfacediff.synthesis.model import PRESETS, SCADM, SCADMOptions
from semfacediff.synthesis.published import from_checkpoint, from_published
from semfacediff.synthesis.style_encoder import StyleEncoder
from semfacediff.synthesis.unet import UNet

__all__ = [
    "PRESETS",
    "SCADM",
    "FirstStage",
    "SCADMOptions",
    "StyleEncoder",
    "SynthesisCard",
    "UNet",
    "from_checkpoint",
    "from_published",
    "load_synthesis",
    "one_hot",
    "read_synthesis_card",
    "save_synthesis",
]
