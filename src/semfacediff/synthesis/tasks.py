"""What SCA-DM is for: reconstruction, style of other photos, styles out of noise, interpolation, editing of photos.

All tasks differ only in the label map that a face is made from and in where each class's style token comes from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semfacediff.errors import UserError
from semfacediff.labels import CELEBAMASK, LabelSpace
from semfacediff.synthesis.faces import Faces, Preprocessor, one_each, relaid
from semfacediff.synthesis.layouts import part_indices
from semfacediff.synthesis.model import SCADM
from semfacediff.synthesis.sampling import OnStep, SamplingOptions, denoiser, generators, invert, sample, start_noise
from semfacediff.synthesis.unet import Condition
from semfacediff.types import FaceSample

ABSENT = ("encoder", "zero_image", "refuse")
Parts = str | Sequence[str]
"""Class names, or attributes (``lips``) for several classes at once."""
Notes = tuple[str, ...]


@dataclass(frozen=True)
class Synthesis:
    """What a task made.

    Attributes:
        images: float32 ``[N,3,S,S]`` in [0,1], on the CPU; S is the model's size.
        notes: of every image, what was not as asked; empty as a rule.
    """

    images: Tensor
    notes: Notes


class Synthesizer:
    """A model with a way of sampling.

    Args:
        model: in eval mode, on any device; see :meth:`SCADM.in_precision` for half precision.
        options: steps, guidance, seed.
        space: label space of the model.
        data_space: label space of the faces that come in; converted by class name, or refused.
        absent: style of a part that the layout has and the reference lacks. ``encoder``: whatever the style encoder
            says of no pixels, which in published weights is a constant that training never read, and with
            ``absent_token`` a learned token; ``zero_image``: the style of an empty photo, which training did read, so
            the part is drawn from noise; ``refuse``: an error.
        on_step: called after every step of sampling; whatever it raises ends the task.

    Raises:
        UserError: a space that does not convert or fit, or an unknown ``absent``.
    """

    def __init__(
        self,
        model: SCADM,
        options: SamplingOptions | None = None,
        space: LabelSpace = CELEBAMASK,
        data_space: LabelSpace | None = None,
        absent: str = "encoder",
        on_step: OnStep | None = None,
    ):
        if absent not in ABSENT:
            raise UserError(f"absent: expected one of {', '.join(ABSENT)}, got '{absent}'")
        if space.n != model.options.classes:
            raise UserError(
                f"label space '{space.name}' has {space.n} classes, the model {model.options.classes}; "
                f"name the space that the model was trained in"
            )
        self.model, self.options, self.space, self.absent = model, options or SamplingOptions(), space, absent
        self.on_step = on_step
        self._intake = Preprocessor(model.options.image_size, space, data_space or space)
        self._all_parts = list(range(space.n))

    def autoencode(self, faces: Faces) -> Synthesis:
        """Every photo through the first stage and back: what no reconstruction can be expected to exceed."""
        first_stage, images = self.model.first_stage, self._intake.images(faces)
        with torch.no_grad():
            made = first_stage.decode(first_stage.encode(images.to(first_stage.vq.device, first_stage.dtype)))
        return self._finished(made, faces, ("",) * len(faces))

    def reconstruct(self, faces: Faces) -> Synthesis:
        """Every face from its own label map and style."""
        return self.swap_style(faces, faces)

    def swap_style(self, layouts: Faces, references: Faces) -> Synthesis:
        """Every layout in the style of its reference, all parts."""
        mask = self._masks(layouts)
        tokens, notes = self._styled(layouts, mask, one_each(references, layouts), self._all_parts)
        return self._render(layouts, mask, tokens, notes)

    def swap_parts(self, faces: Faces, references: Faces, parts: Parts) -> Synthesis:
        """Every face with ``parts`` in the style of its reference."""
        mask = self._masks(faces)
        tokens, notes = self._mixed(faces, mask, self._tokens(faces, mask), references, parts)
        return self._render(faces, mask, tokens, notes)

    def generate(self, layouts: Faces, draw: int = 0) -> Synthesis:
        """Every layout in a style out of noise; ``draw`` counts different results for the same layout."""
        mask = self._masks(layouts)
        return self._render(layouts, mask, self._empty_tokens(mask), ("",) * len(layouts), draw=draw)

    def mix(self, layouts: Faces, references: Faces, parts: Parts, draw: int = 0) -> Synthesis:
        """Every layout with ``parts`` in the style of its reference, the others out of noise."""
        mask = self._masks(layouts)
        tokens, notes = self._mixed(layouts, mask, self._empty_tokens(mask), references, parts)
        return self._render(layouts, mask, tokens, notes, draw=draw)

    def interpolate(self, first: FaceSample, second: FaceSample, parts: Parts, weights: Sequence[float]) -> Synthesis:
        """``first`` with the style of ``parts`` on the way to that of ``second``, one image a weight.

        All images start from the same noise; weight 0 is the reconstruction of ``first``, 1 is :meth:`swap_parts`.
        """
        if not len(weights):
            raise UserError("interpolate: expected at least one weight, got none")
        mask, n = self._masks([first]), len(weights)
        own = self._tokens([first], mask)
        other, notes = self._mixed([first], mask, own, [second], parts)
        along = torch.cat([own + w * (other - own) for w in weights])
        return self._render([first] * n, mask.expand(n, -1, -1, -1), along, notes * n)

    def edit(
        self,
        faces: Faces,
        layouts: Faces | None = None,
        references: Faces | None = None,
        parts: Parts | None = None,
        refinements: int = 0,
    ) -> Synthesis:
        """Every photo with another layout, or ``parts`` in the style of a reference, or both; the rest as it was.

        The noise that the model makes the photo of is found by DDIM inversion under the photo's own condition, without
        guidance, and denoised under the new one.

        Args:
            faces: photos with their label maps.
            layouts: edited label maps, of the same ids.
            references: photos to take the style of ``parts`` from.
            parts: given with references.
            refinements: see :func:`~semfacediff.synthesis.sampling.invert`.

        Raises:
            UserError: nothing to edit, layouts of other ids, references without parts or the reverse.
        """
        if layouts is None and references is None:
            raise UserError("edit: expected layouts, references or both, got neither; nothing would change")
        if (references is None) != (parts is None):
            raise UserError("edit: references and parts are given together, to say what is taken from where")
        changed = faces if layouts is None else relaid(faces, layouts)
        before, after = self._masks(faces), self._masks(changed)
        tokens, notes = self._styled(changed, after, faces, self._all_parts)
        if references is not None and parts is not None:
            tokens, further = self._mixed(changed, after, tokens, references, parts)
            notes = tuple("; ".join(filter(None, both)) for both in zip(notes, further, strict=True))
        noise = self._inverted(faces, before, refinements)
        return self._render(changed, after, tokens, notes, noise)

    # Styles

    @torch.no_grad()
    def _tokens(self, faces: Faces, mask: Tensor) -> Tensor:
        return self.model.style_encoder(self._intake.images(faces).to(mask), mask)

    @torch.no_grad()
    def _empty_tokens(self, mask: Tensor) -> Tensor:
        """Styles of no photo: what training saw whenever the photo was dropped."""
        return self.model.style_encoder(mask.new_zeros(len(mask), 3, *mask.shape[-2:]), mask)

    def _styled(self, layouts: Faces, mask: Tensor, references: Faces, classes: list[int]) -> tuple[Tensor, Notes]:
        """Tokens of ``references`` for layouts of ``mask``, and notes on those of ``classes`` that they lack."""
        there = self._masks(references)
        tokens = self._tokens(references, there)
        lacking = mask.flatten(2).any(-1) & ~there.flatten(2).any(-1)
        names = [", ".join(self.space.classes[c] for c in classes if row[c]) for row in lacking.tolist()]
        first = next((i for i, found in enumerate(names) if found), None)
        if first is not None and self.absent == "refuse":
            raise UserError(
                f"'{references[first].id}' has no {names[first]}, which the layout '{layouts[first].id}' has; "
                f"take another reference, or set absent=zero_image or absent=encoder"
            )
        if first is not None and self.absent == "zero_image":
            tokens = torch.where(lacking[..., None], self._empty_tokens(mask), tokens)
        return tokens, tuple(f"not in the reference: {found}" if found else "" for found in names)

    def _mixed(
        self, layouts: Faces, mask: Tensor, tokens: Tensor, references: Faces, parts: Parts
    ) -> tuple[Tensor, Notes]:
        """``tokens`` with those of ``parts`` from ``references``."""
        chosen = part_indices(parts, self.space)
        theirs, notes = self._styled(layouts, mask, one_each(references, layouts), chosen)
        mixed = tokens.clone()
        mixed[:, chosen] = theirs[:, chosen]
        nowhere = f"not in the layout: {', '.join(self.space.classes[c] for c in chosen)}"
        here = mask[:, chosen].flatten(1).any(1).tolist()
        return mixed, tuple(note if seen else nowhere for note, seen in zip(notes, here, strict=True))

    # Denoising

    @torch.no_grad()
    def _condition(self, tokens: Tensor, mask: Tensor) -> Condition:
        return self.model.unet.condition(tokens, mask, self.model.options.latent_shape[1:])

    def _inverted(self, faces: Faces, mask: Tensor, refinements: int) -> Tensor:
        first_stage = self.model.first_stage
        with torch.no_grad():
            latents = first_stage.encode(self._intake.images(faces).to(mask.device, first_stage.dtype)).float()
        own = self._condition(self._tokens(faces, mask), mask)
        eps = denoiser(self.model.unet, own, prediction=self.model.options.prediction)
        return invert(eps, latents, self.options, refinements)

    def _render(
        self, layouts: Faces, mask: Tensor, tokens: Tensor, notes: Notes, noise: Tensor | None = None, draw: int = 0
    ) -> Synthesis:
        o, ids, first_stage = self.options, [face.id for face in layouts], self.model.first_stage
        drawing = generators(ids, o.seed, draw)
        if noise is None:
            noise = start_noise(self.model.options.latent_shape, drawing).to(mask.device)
        null = self._condition(*self.model.null_condition()) if o.scale != 1 else None
        eps = denoiser(self.model.unet, self._condition(tokens, mask), null, o.scale, self.model.options.prediction)
        latents = sample(eps, noise, o, drawing, self.on_step)
        _check_finite(latents, ids, "denoiser", mask.dtype)
        with torch.no_grad():
            return self._finished(first_stage.decode(latents.to(first_stage.dtype)), layouts, notes)

    def _finished(self, images: Tensor, faces: Faces, notes: Notes) -> Synthesis:
        """From what the first stage has decoded."""
        _check_finite(images.float(), [face.id for face in faces], "first stage", self.model.first_stage.dtype)
        return Synthesis(((images.float() + 1) / 2).clamp(0, 1).cpu(), notes)

    def _masks(self, faces: Faces) -> Tensor:
        """One-hot ``[N,K,S,S]`` on the model's device, in its precision."""
        return self._intake.masks(faces).to(self.model.unet.out.get_parameter("0.weight"))


def _check_finite(values: Tensor, ids: Sequence[str], what: str, dtype: torch.dtype) -> None:
    finite = values.flatten(1).isfinite().all(1).tolist()
    bad = [id for id, good in zip(ids, finite, strict=True) if not good]
    if bad:
        advice = "use bfloat16 or float32" if dtype == torch.float16 else "its weights are damaged, or far from trained"
        raise UserError(
            f"the {what} gave values that are not finite in {str(dtype).removeprefix('torch.')} for "
            f"{', '.join(bad[:4])} ({len(bad)} of {len(ids)} samples); {advice}"
        )
