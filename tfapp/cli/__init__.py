"""From words to values and back: one small module a verb, nothing heavy imported at module level."""
