"""Makes the embedded pair's draft: text, the target's own continuations of it, training, evaluation.

`python -m tools.distill` runs the stages in order; each is resumable and seeded. Nothing of
the suite imports this package; it is kept so that the committed draft can be made again, and better.
"""
