"""``evaluate.py task=parsing``."""

from typing import Literal

from pydantic import model_validator

from semfacediff.config.editing import EditingEvaluation
from semfacediff.config.evaluation import Evaluation


class ParsingEvaluation(Evaluation):
    """``evaluate.py task=parsing``; what only edits need is accepted and left alone."""

    task: Literal["parsing"]
    protocol: Literal["ce7454", "segface", "strict"]
    stratify: list[str]

    @model_validator(mode="before")
    @classmethod
    def _without_edits(cls, plain: dict) -> dict:
        if plain.get("protocol") in ("thesis", "pie"):
            raise ValueError(
                f"protocol={plain['protocol']} scores edits; use protocol=strict, ce7454 or segface for task=parsing"
            )
        return {k: v for k, v in plain.items() if k in cls.model_fields or k not in EditingEvaluation.model_fields}
