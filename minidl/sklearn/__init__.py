"""minidl's nets as scikit-learn estimators, for its pipelines, searches and cross-validation.

    from minidl.sklearn import MinidlClassifier, MinidlRegressor

    model = make_pipeline(StandardScaler(), MinidlClassifier((64, 32), random_state=0))
    GridSearchCV(model, {"minidlclassifier__alpha": [1e-4, 1e-2]}, n_jobs=2).fit(X, y)

Parameters and attributes have the names, defaults and meaning of `sklearn.neural_network.MLPClassifier`. Missing are
its solver "lbfgs", its learning-rate schedules and the Poisson loss; added are the solver "adamw", more activations,
`compile`, and `module`, for any net of minidl's.

This package requires the `sklearn` extra: pip install "minidl[sklearn]". Nothing else of minidl imports it.
"""

try:
    import sklearn
except ImportError as error:
    raise ImportError('minidl.sklearn: takes scikit-learn: pip install "minidl[sklearn]"') from error
if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 6):
    found = sklearn.__version__
    raise ImportError(
        f'minidl.sklearn: expected scikit-learn 1.6 or later, found {found}: pip install "minidl[sklearn]"'
    )

from minidl.sklearn.classifier import MinidlClassifier
from minidl.sklearn.regressor import MinidlRegressor

__all__ = ["MinidlClassifier", "MinidlRegressor"]
