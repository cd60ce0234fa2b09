"""How a net is trained where nobody says otherwise: by `fit`, `minidl train`, `minidl search` and the estimators alike.

Two things differ, each for a reason. `fit` takes one epoch, in batches of a `data.Loader`, as a loop that one writes; a
command takes as many, and as large ones, as train a net for images. The estimators have scikit-learn's own parameters,
so `max_iter` and `batch_size` are those of its `MLPClassifier`.
"""

OPTIMIZER = "adam"
RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}  # learning rates
MOMENTUM = 0.9  # of "sgd"
COMPILE = False  # nobody waits for a compiler unasked
EPOCHS, BATCH_SIZE = 1, 32
COMMAND_EPOCHS, COMMAND_BATCH_SIZE = 5, 128
