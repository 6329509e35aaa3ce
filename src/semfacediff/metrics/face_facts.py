"""What a photo and its parse say of a face, for reports by group: skin tone and pose. No score, no direction."""

import json

import numpy as np

from semfacediff.labels import LabelSpace
from semfacediff.metrics.cielab import cielab
from semfacediff.metrics.geometry import centroids
from semfacediff.metrics.outside import eroded
from semfacediff.types import FaceSample

MIN_SKIN = 0.005
"""Share of the photo under which the skin is too small to name a tone."""
_RIM = 1 / 128
"""Share of the photo's long side that is cut off the skin's rim, where hair and background shine through."""
_EYES_PER_FACE = 0.5
"""From an offset in face widths to one in distances of the eyes. Less than the ratio of the two lengths, because the
face's edges move against the nose as the head turns; robust slope over 486 label maps of CelebAMask-HQ."""
_FACE = tuple("skin nose l_eye r_eye l_brow r_brow mouth u_lip l_lip eye_g".split())


def face_facts(sample: FaceSample, photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> dict:
    """By what reports are stratified: ``ita_deg``, ``pose_proxy``, and ``traits``, the data set's annotation as JSON.

    Args:
        photo: uint8 ``[H, W, 3]`` RGB. labels: integer ``[H, W]`` in ``space``, a parse of it or the truth.
    """
    traits = json.dumps(sample.attributes, sort_keys=True, ensure_ascii=False) if sample.attributes else None
    return {"ita_deg": ita_deg(photo, labels, space), "pose_proxy": pose_proxy(labels, space), "traits": traits}


def ita_deg(photo: np.ndarray, labels: np.ndarray, space: LabelSpace) -> float | None:
    """Individual typology angle of the skin as photographed, in degrees: atan2(L* - 50, b*), high is light.

    Chardon, Cretois and Hourseau, "Skin colour typology and suntanning pathways", 1991. Of the medians of L* and b*
    over the parsed skin less its rim, so that highlights, beard and stray pixels weigh little. It is a property of the
    photo: light and white balance enter it. ``None`` where under :data:`MIN_SKIN` of the photo is skin.

    Args:
        photo: uint8 ``[H, W, 3]`` RGB. labels: integer ``[H, W]`` in ``space``.
    """
    skin = labels == space.index("skin")
    inner = eroded(skin, round(_RIM * max(skin.shape)))
    pixels = photo[inner if inner.sum() >= MIN_SKIN * skin.size else skin]
    if len(pixels) < MIN_SKIN * skin.size:
        return None
    lightness, _, b = np.median(cielab(pixels[None])[0], axis=0).astype(float)
    return float(np.degrees(np.arctan2(lightness - 50, b)))


def pose_proxy(labels: np.ndarray, space: LabelSpace) -> float | None:
    """How far the nose lies from the middle of the face, along the line of the eyes, in distances of the eyes.

    0 is a frontal face; positive is turned towards the viewer's right, for the nose stands out of the plane of the
    eyes and moves with the turn. Along the line of the eyes, so that a tilted head is not a turned one. Where an eye
    is missing (profiles, dark glasses) the middle is that of the face's edges at the height of the nose, and the offset
    in face widths is scaled to match. ``None`` without a nose.

    Args:
        labels: integer ``[H, W]`` in ``space``.
    """
    found = centroids(labels, space, ("nose", "l_eye", "r_eye"))
    if "nose" not in found:
        return None
    if len(found) == 3:
        right, left = sorted((found["l_eye"], found["r_eye"]), key=lambda eye: -eye[0])
        axis = right - left
        return float((found["nose"] - (left + right) / 2) @ axis / (axis @ axis))
    face = np.isin(labels[round(found["nose"][1])], [space.index(c) for c in _FACE if c in space.classes])
    columns = np.flatnonzero(face)
    if len(columns) < 2:
        return None
    middle, width = (columns[0] + columns[-1]) / 2, columns[-1] - columns[0] + 1
    return float((found["nose"][0] - middle) / width * _EYES_PER_FACE)
