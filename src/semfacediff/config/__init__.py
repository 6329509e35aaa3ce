"""The typed, closed configuration, and the bridge from Hydra to it.

Hydra composes plain YAML from ``conf/`` and ``experiments/``; :func:`typed` turns the result into the frozen models
of this package before anything heavy is imported. An unknown key, a wrong type or a value out of range ends the run
with one sentence that names the key and the choices.
"""

from semfacediff.config.closed import Closed, Fraction, Positive, Seed
from semfacediff.config.data import (
    AnyData,
    CelebAMaskHQData,
    DataConfig,
    FileData,
    FolderData,
    HelenData,
    LapaData,
    OtherData,
    PlacedData,
    RuledData,
    ShardsData,
    SplitRuleConfig,
    SubsetConfig,
    ToyData,
)
from semfacediff.config.editing import (
    AnyEditor,
    EditingEvaluation,
    IdentityEditor,
    InpaintEditor,
    OtherEditor,
    PrecomputedEditor,
    RecolorEditor,
    RegionConfig,
    SCADMEditor,
)
from semfacediff.config.evaluation import ClipConfig, Evaluation, MetricsConfig, ShardConfig, WeightsConfig
from semfacediff.config.identity import PATHS, VOLATILE, WITHOUT_EFFECT, digest, scientific, without_folders
from semfacediff.config.parsing import ParsingEvaluation
from semfacediff.config.prompts import ANATOMICAL, CascadeConfig, StageConfig, too_long, without_words
from semfacediff.config.reading import checked, typed
from semfacediff.config.run import (
    AnyTracking,
    DeviceConfig,
    DiffusionRuntime,
    NoTracking,
    ParserConfig,
    RuntimeConfig,
    WandbTracking,
)
from semfacediff.config.synthesis import (
    DiffusionConfig,
    FirstStageConfig,
    StepsConfig,
    SynthesisConfig,
    SynthesisEvaluation,
    SynthesisEvaluationConfig,
    SynthesisTraining,
    VQConfig,
)
from semfacediff.config.tasks import AnyTask
from semfacediff.config.training import (
    AdamThenSGDConfig,
    AdamWConfig,
    AnyOptim,
    LossConfig,
    ParserTraining,
    TrainConfig,
)
from semfacediff.places import repository, results

__all__ = [
    "ANATOMICAL",
    "PATHS",
    "VOLATILE",
    "WITHOUT_EFFECT",
    "AdamThenSGDConfig",
    "AdamWConfig",
    "AnyData",
    "AnyEditor",
    "AnyOptim",
    "AnyTask",
    "AnyTracking",
    "CascadeConfig",
    "CelebAMaskHQData",
    "ClipConfig",
    "Closed",
    "DataConfig",
    "DeviceConfig",
    "DiffusionConfig",
    "DiffusionRuntime",
    "EditingEvaluation",
    "Evaluation",
    "FileData",
    "FirstStageConfig",
    "FolderData",
    "Fraction",
    "HelenData",
    "IdentityEditor",
    "InpaintEditor",
    "LapaData",
    "LossConfig",
    "MetricsConfig",
    "NoTracking",
    "OtherData",
    "OtherEditor",
    "ParserConfig",
    "ParserTraining",
    "ParsingEvaluation",
    "PlacedData",
    "Positive",
    "PrecomputedEditor",
    "RecolorEditor",
    "RegionConfig",
    "RuledData",
    "RuntimeConfig",
    "SCADMEditor",
    "Seed",
    "ShardConfig",
    "ShardsData",
    "SplitRuleConfig",
    "StageConfig",
    "StepsConfig",
    "SubsetConfig",
    "SynthesisConfig",
    "SynthesisEvaluation",
    "SynthesisEvaluationConfig",
    "SynthesisTraining",
    "ToyData",
    "TrainConfig",
    "VQConfig",
    "WandbTracking",
    "WeightsConfig",
    "checked",
    "digest",
    "repository",
    "results",
    "scientific",
    "too_long",
    "typed",
    "without_folders",
    "without_words",
]
