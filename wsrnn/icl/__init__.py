"""What a trained model learns in context: `study(run)`, on one set of fresh prompts.

errors      error after n examples with bootstrap intervals, next to the classical algorithms
robustness  distribution shifts, and interventions on the prompt
probes      what the predictions imply of w, and what can be decoded from the hidden states
plateaus    plateaus of a loss curve and the levels that theory predicts; emergence: those of a run
text        the summary for a terminal

The protocol is that of Garg et al. (2022): at least 1,280 prompts and 90 % bootstrap intervals from
1,000 resamples. A new measurement is a function of (model, task, batch) in a file here, an entry of
the document in `study` and lines in `text`.
"""

from wsrnn.icl.study import study

__all__ = ["study"]
