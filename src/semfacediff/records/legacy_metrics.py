"""Identities of metrics in records of earlier versions, completed with what those left unsaid.

An earlier version named a metric's implementation and version in one string and declared fewer properties. What it
computed is known: hence the completed identity is the one that the same computation declares today, a finished run is
still recognised as finished, and its samples may be joined with those of today. Nothing is loosened: properties that
are there are compared as they are.
"""

import re

_UNITLESS = {"unit": "1", "resize": "none", "weights": None}
_LEFT_UNSAID: dict[str, dict[str, object]] = {
    "ssim": {**_UNITLESS, "higher_is_better": True},
    "psnr_outside, max_abs_outside": {
        **_UNITLESS,
        "range": {"psnr_outside": [0, None], "max_abs_outside": [0, 255]},
        "unit": {"psnr_outside": "dB", "max_abs_outside": "8-bit levels"},
        "higher_is_better": {"psnr_outside": True, "max_abs_outside": False},
    },
    "iou": {**_UNITLESS, "higher_is_better": True, "input": "label maps at the working size"},
    "lpips": {"unit": "1", "resize": "none", "higher_is_better": False, "input": "RGB in [-1,1]", "network": "AlexNet"},
    "clip": {"unit": "1", "higher_is_better": True},
    "fid": {"unit": "1", "higher_is_better": False},
    "kid": {"unit": "1", "higher_is_better": False},
}
_HELD_TO = {"ssim": "scikit-image", "lpips": "lpips", "fid": "pytorch-fid"}
"""Metrics of ours that records up to version 0.1 attribute to the library whose numbers they reproduce."""
_OURS = {"implementation": "semfacediff", "version": "1"}
_NAME_AND_VERSION = re.compile(r"(?P<implementation>.+?) (?P<version>\d[^ ,]*)(, AlexNet)?")


def completed(identity: dict) -> dict:
    """A metric's identity as of today; the same one unless it is of an earlier form and of a metric of then."""
    metric = identity.get("metric")
    if "version" not in identity and metric in _LEFT_UNSAID:
        both = _NAME_AND_VERSION.fullmatch(str(identity.get("implementation")))
        if both is not None:
            named = {key: both[key] for key in ("implementation", "version")}
            identity = identity | _LEFT_UNSAID[metric] | named
    by_library = "version" in identity and identity.get("implementation") == _HELD_TO.get(str(metric))
    by_library &= not identity.get("reference") and identity.get("protocol") != "pie"  # which the library computes
    return identity | _OURS if by_library else identity


def compared(identity: dict) -> dict:
    """What must agree for two values to stand side by side: a metric of ours and the library that it is held to give
    the same numbers, and which version of it the machine has changes none."""
    plain = {key: value for key, value in identity.items() if key not in ("held_to", "reference")}
    return plain | _OURS if identity.get("reference") else plain


def complete_run(facts: dict) -> dict:
    """``run.json`` with all of its identities completed, in the list of metrics and among the run's inputs."""
    if "metrics" in facts:
        facts = facts | {"metrics": [completed(metric) for metric in facts["metrics"]]}
    inputs = facts["identity"].get("inputs", {})
    if "metrics" in inputs:
        listed = inputs["metrics"].values() if isinstance(inputs["metrics"], dict) else inputs["metrics"]
        of_metrics = {metric["metric"]: completed(metric) for metric in listed}  # the first records held a list
        facts = facts | {"identity": facts["identity"] | {"inputs": inputs | {"metrics": of_metrics}}}
    return facts
