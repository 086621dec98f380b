"""A run on a machine that is elsewhere: created, used, and given back, by commands that anybody could type."""
