"""Searching settings: many short trainings, each an ordinary run, and what they say about which settings are best."""
