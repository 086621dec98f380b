def write(state, found):
    pass
