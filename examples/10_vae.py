"""A variational autoencoder of MNIST (Kingma and Welling 2014). Expect a test ELBO of about -103 nats after 20 epochs.

The encoder gives a normal distribution over 20 numbers for each image, the decoder the probability of ink for each
pixel. Training makes the evidence lower bound large: E[ln p(x | z)] - KL(q(z | x) | N(0, 1)), in nats per image.
Saves vae.png: ten rows of new digits, made of nothing but draws from N(0, 1), then test images, each above
its reconstruction.      Usage: python 10_vae.py [EPOCHS] [PICTURE.png]
"""

import sys
import time

import numpy as np

import minidl
from minidl import data, nn, ops, optim
from minidl.data.images import save_grid

LATENT, HIDDEN, BATCH = 20, 512, 128


class VAE(nn.Module):
    def __init__(self):
        self.encoder = nn.Sequential(nn.Dense(784, HIDDEN), nn.ReLU())
        self.mu, self.log_var = nn.Dense(HIDDEN, LATENT), nn.Dense(HIDDEN, LATENT)
        self.decoder = nn.Sequential(nn.Dense(LATENT, HIDDEN), nn.ReLU(), nn.Dense(HIDDEN, 784))

    def forward(self, x):
        h = self.encoder(x)
        mu, log_var = self.mu(h), self.log_var(h)
        return self.decoder(ops.reparameterise(mu, log_var)), mu, log_var


def loss_of(model, x):
    """-ELBO, summed over the batch."""
    x = x.reshape(len(x), 784)
    logits, mu, log_var = model(x)
    return ops.binary_cross_entropy_with_logits(logits, x, reduction="sum") + ops.gaussian_kl(mu, log_var)


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
picture = sys.argv[2] if len(sys.argv) > 2 else "vae.png"
minidl.manual_seed(0)
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
train, test = data.load("mnist")
batches = data.Loader(train, batch_size=BATCH, shuffle=True, drop_last=True)


@minidl.compile
def step(x, y):
    loss = loss_of(model, x) / len(x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


start = time.perf_counter()
for epoch in range(1, epochs + 1):
    step.run(batches)
    with minidl.no_grad():
        total = sum(loss_of(model, x).item() for x, _ in data.Loader(test, batch_size=1000))
    print(f"epoch {epoch:2}: test ELBO {-total / len(test.y):.2f} nats, {time.perf_counter() - start:.0f} s")

with minidl.no_grad():
    drawn = minidl.random.default_generator().standard_normal((160, LATENT), np.float32)
    samples = ops.sigmoid(model.decoder(drawn)).numpy()
    originals = (test.x[:48] / np.float32(255)).reshape(3, 16, 784)
    again = ops.sigmoid(model.decoder(model.mu(model.encoder(originals)))).numpy()
pairs = np.stack([originals, again], axis=1).reshape(-1, 784)
save_grid(picture, np.concatenate([samples, pairs]).reshape(-1, 28, 28))
print(f"new digits and reconstructions: {picture}")
