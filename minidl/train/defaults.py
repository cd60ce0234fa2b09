"""The training defaults shared by `fit`, `minidl train`, `minidl search` and the estimators.

Epochs and batch sizes differ on purpose. `fit` takes one epoch and the batch size of `data.Loader`, like a hand-written
loop; the commands take what trains a net for images well. The estimators have scikit-learn's own parameters, so
`max_iter` and `batch_size` are those of its `MLPClassifier`.
"""

OPTIMIZER = "adam"
RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}  # learning rates
MOMENTUM = 0.9  # of "sgd"
COMPILE = False  # compiling takes seconds, so it is opt-in
EPOCHS, BATCH_SIZE = 1, 32
COMMAND_EPOCHS, COMMAND_BATCH_SIZE = 5, 128
