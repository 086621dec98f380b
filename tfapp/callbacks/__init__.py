"""What happens beside the steps of a training: one behaviour, one small class, one file.

`state()` and `restore(state)`, where a callback has them, are how it survives in a checkpoint.
"""
