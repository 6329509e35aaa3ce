"""What editors are told: prompts, what opposes them, and whether they fit."""
