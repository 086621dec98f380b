"""What a finished run gives away of the rows that it was trained on: measured by attacks, and bounded from below.

What is proved, a run's ε, bounds every attack from above; what is measured here bounds it from below.
"""
