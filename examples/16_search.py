"""Which settings make a small net read digits? 27 begin, of which every third goes on, and every third of those.

Each setting is tried in one of two processes; one that is given more epochs goes on from its own checkpoint. The
picture needs the plot extra: pip install "minidl[plot]".   Usage: python 16_search.py [PICTURE.png] [--quick]
"""

import argparse
from pathlib import Path

from minidl import data, models, optim, search
from minidl.train import callbacks, fit

SPACE = {
    "lr": search.LogUniform(1e-4, 1e-1),
    "width": search.Integers(8, 128, log=True),
    "layers": [1, 2, 3],
    "batch_size": [16, 32, 64],
    "weight_decay": search.LogUniform(1e-5, 1e-1),
}


def accuracy(trial: search.Trial) -> float:
    """Of the validation set, after trial.budget epochs. minidl's generator was seeded with trial.seed just before."""
    train, held = data.train_test_split(data.load("digits")[0], test_size=0.25, seed=0)
    model = models.build("mlp", (1, 8, 8), 10, hidden=[trial["width"]] * trial["layers"])
    history = fit(
        model,
        data.Loader(train, batch_size=trial["batch_size"], shuffle=True),
        held,
        epochs=trial.budget,
        optimizer=optim.AdamW(model.parameters(), lr=trial["lr"], weight_decay=trial["weight_decay"]),
        metrics=["accuracy"],
        callbacks=[callbacks.Checkpoint(trial.checkpoint)],
        compile=False,  # a net of each size would be compiled anew
        resume=trial.checkpoint if Path(trial.checkpoint).exists() else None,
        verbose=False,
    )
    return history["val_accuracy"][-1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--quick", action="store_true", help="9 settings begin, and none is trained for long")
    given = parser.parse_args()
    budgets, trials = ((1, 3), 9) if given.quick else ((1, 3, 9), 27)
    results = search.successive_halving(accuracy, SPACE, budgets=budgets, trials=trials, workers=2)
    print(results)
    best = results.best
    print(f"best: {best.value:.1%} after {best.budget} epochs, with {best.settings}")
    if given.picture:
        results.plot(given.picture)
        print(f"all trials are drawn in {given.picture}")


if __name__ == "__main__":  # the workers import this file, and must not search themselves
    main()
