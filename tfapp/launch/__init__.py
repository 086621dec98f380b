"""Many processes as one job: who they are, how they are started, watched and ended.

Nothing here imports TensorFlow: the launcher answers at once and costs the workers nothing.
"""
