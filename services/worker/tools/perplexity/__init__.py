"""`octavo perplexity`: how well a checkpoint predicts a text, by the code that serves it.

    perplexity = exp(- mean of ln p(token | the tokens before it in its window))

The text is cut into windows that lie side by side; each is computed by itself, and every token of
it but the first is scored. Nothing is scored twice, so the figure is exact for its window; a longer
window gives a lower one.

measure.py   windows through the engine, and what they add up to
measured.py  from a folder and a text to the figure
"""
