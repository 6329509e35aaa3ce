"""What a command can be asked for: the models that :func:`semfacediff.config.typed` chooses from, by ``task``."""

from semfacediff.config.editing import EditingEvaluation
from semfacediff.config.parsing import ParsingEvaluation
from semfacediff.config.synthesis import SynthesisEvaluation, SynthesisTraining
from semfacediff.config.training import ParserTraining

AnyTask = EditingEvaluation | ParsingEvaluation | SynthesisEvaluation | ParserTraining | SynthesisTraining
