"""A net where scikit-learn expects an estimator: in a pipeline, a grid search, a cross-validation. On 8×8 digits.

Needs the sklearn extra: pip install "minidl[sklearn]".   Usage: python 17_scikit_learn.py [--quick]
"""

import sys
import time
import warnings

from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from minidl import nn, ops
from minidl.sklearn import MinidlClassifier, MinidlRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # short trainings, on purpose
quick = "--quick" in sys.argv  # shorter ones still, and in this process
x, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)

# The same parameters, the same place: minidl's net and scikit-learn's.
for kind in (MinidlClassifier, MLPClassifier):
    model = make_pipeline(
        StandardScaler(), kind((64,), max_iter=8 if quick else 30, learning_rate_init=3e-3, random_state=0)
    )
    model.fit(x_train[:100], y_train[:100])  # loads what is to be loaded
    start = time.perf_counter()
    accuracy = model.fit(x_train, y_train).score(x_test, y_test)
    print(f"{kind.__name__:17} test accuracy {accuracy:.1%}   {time.perf_counter() - start:.2f} s")

# A search over its parameters, in two processes.
model = make_pipeline(
    StandardScaler(), MinidlClassifier(max_iter=4 if quick else 15, learning_rate_init=3e-3, random_state=0)
)
grid = {"minidlclassifier__hidden_layer_sizes": [(8,), (64,)], "minidlclassifier__alpha": [1e-4, 1.0]}
search = GridSearchCV(model, grid, cv=3, n_jobs=1 if quick else 2).fit(x_train, y_train)
print(f"grid search       test accuracy {search.score(x_test, y_test):.1%}   {search.best_params_}")


# Any net will do: here a convolution, over rows of 64 numbers that are images again.
class Image(nn.Module):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        self.features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.output = nn.Sequential(nn.Dropout(0.2), nn.Dense(16 * 3 * 3, n_outputs))

    def forward(self, x):
        return self.output(self.features(ops.reshape(x, (len(x), 1, 8, 8))))


net = MinidlClassifier(module=Image, max_iter=4 if quick else 30, learning_rate_init=1e-2, random_state=0)
model = make_pipeline(MinMaxScaler(), net).fit(x_train, y_train)
print(f"a convolution     test accuracy {model.score(x_test, y_test):.1%}")

# Numbers instead of classes. A net wants targets of the size of 1: scikit-learn scales them, and back.
net = MinidlRegressor((32,), max_iter=60, alpha=1.0, learning_rate_init=3e-3, random_state=0)
model = TransformedTargetRegressor(make_pipeline(StandardScaler(), net), transformer=StandardScaler())
scores = cross_val_score(model, *load_diabetes(return_X_y=True), cv=2 if quick else 5)
print(f"diabetes          R² {scores.mean():.2f} ± {scores.std():.2f} in {len(scores)}-fold cross-validation")
