"""The words of one edit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What an editor is told of one edit.

    Attributes:
        prompt: as asked for; what CLIP compares the edit with.
        expanded_prompt: what the editor reads instead, where a vague prompt was completed; else ``None``.
        negative_prompt: what the region should not look like; ``None`` where there is none, "" for the empty text.
        instruction: of a task set, what maskless models read; ``None``: what they make of attribute and prompt.
    """

    prompt: str
    expanded_prompt: str | None = None
    negative_prompt: str | None = None
    instruction: str | None = None

    @property
    def read(self) -> str:
        """The prompt that reaches the editor."""
        return self.expanded_prompt or self.prompt
