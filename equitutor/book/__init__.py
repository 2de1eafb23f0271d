"""What the pages of the book need: figures, sliders, tables, the papers' numbers, the scoreboard, assignments.

No model is trained here; the chapters themselves are in the folder book/ of the checkout.
"""
