"""Two interleaved half-circles, told apart by a small net. Draws its decision boundary to moons.png.

Needs the plot extra: pip install "minidl[plot]".   Usage: python 02_moons.py [PICTURE.png]
"""

import sys

import numpy as np

import minidl
from minidl import nn, ops, optim


def moons(n: int, noise: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n points (n, 2) on two half-circles, and which of the two (n, 1), as 0 or 1."""
    angle, moon = rng.uniform(0, np.pi, n), rng.integers(0, 2, n)
    x = np.where(moon, 1 - np.cos(angle), np.cos(angle))
    y = np.where(moon, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + rng.normal(0, noise, (n, 2))
    return points.astype(np.float32), moon[:, None].astype(np.float32)


def draw(model: nn.Module, points: np.ndarray, moon: np.ndarray, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    across, up = np.meshgrid(np.linspace(-1.6, 2.6, 211), np.linspace(-1.2, 1.7, 146))
    grid = np.stack([across.ravel(), up.ravel()], axis=1).astype(np.float32)
    with minidl.no_grad():
        probability = ops.sigmoid(model(grid)).numpy().reshape(across.shape)
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    shades = axes.contourf(across, up, probability, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.75)
    axes.contour(across, up, probability, levels=[0.5], colors="black", linewidths=1.5)
    for value, colour, marker, name in ((0, "#8c1a1a", "o", "upper moon"), (1, "#12477d", "^", "lower moon")):
        where = moon[:, 0] == value
        axes.scatter(*points[where].T, s=18, c=colour, marker=marker, edgecolors="white", linewidths=0.4, label=name)
    axes.set(title="A 2-16-16-1 net's decision boundary", xlabel="x", ylabel="y", aspect="equal")
    axes.legend(loc="lower left")
    figure.colorbar(shades, label="probability of the lower moon")
    figure.savefig(path, dpi=120)


def main() -> None:
    minidl.manual_seed(0)
    rng = np.random.default_rng(0)
    points, moon = moons(400, 0.15, rng)
    test_points, test_moon = moons(1000, 0.15, rng)
    model = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 1))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(1, 51):
        for x, y in minidl.data.Loader(points, moon, batch_size=32, shuffle=True):
            loss = ops.binary_cross_entropy_with_logits(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            with minidl.no_grad():
                right = (model(test_points).numpy() > 0) == (test_moon > 0.5)
            print(f"epoch {epoch:2d}   loss {loss.item():.4f}   test accuracy {right.mean():.1%}")
    assert right.mean() > 0.97
    path = sys.argv[1] if len(sys.argv) > 1 else "moons.png"
    try:
        draw(model, points, moon, path)
    except ModuleNotFoundError as error:
        sys.exit(f'no picture: {error.name} is missing; pip install "minidl[plot]"')
    print(f"the boundary is drawn in {path}")


if __name__ == "__main__":
    main()
