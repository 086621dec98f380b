"""A trained run made smaller and faster: distil, prune, cluster, quantise, as far as the targets ask for.

targets    what the small model must still be
stages     how strong each stage is at a level, and the plan of its training
guess      how small a level will be, before anything is trained
pipeline   the search: train the stages at a level, write the file, measure it, go on
"""
