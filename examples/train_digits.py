# SPDX-License-Identifier: Apache-2.0
"""Trains the CNN of `pyneo demo` on scikit-learn's handwritten digits and exports it to ONNX.

    python examples/train_digits.py              writes pyneo/data/digits.onnx (needs torch, scikit-learn)

1,797 images of 8x8 pixels, values 0 to 16; which of them are held out is decided by `pyneo.data.held_out`
and by nothing else, so that the demo tests on images that training never saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from pyneo.data import DIGITS, held_out


class DigitsNet(nn.Module):
    """Three 3x3 convolutions with batch norm; 8x8 pixels in, ten logits out."""

    def __init__(self) -> None:
        super().__init__()

        def layer(c_in: int, c_out: int) -> list[nn.Module]:
            return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]

        self.features = nn.Sequential(
            *layer(1, 16), *layer(16, 32), nn.MaxPool2d(2), *layer(32, 32), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 2 * 2, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(image / 16))


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image moved by up to one pixel in each direction."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2, len(images)))
    rows = dy[:, None, None] + torch.arange(8)[None, :, None]
    columns = dx[:, None, None] + torch.arange(8)[None, None, :]
    return padded[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]


def train(epochs: int) -> tuple[DigitsNet, float]:
    digits = load_digits()
    x = torch.from_numpy(digits.images.astype(np.float32))[:, None]
    y = torch.from_numpy(digits.target.astype(np.int64))
    test = torch.from_numpy(held_out(len(x)))
    x_train, y_train, x_test, y_test = x[~test], y[~test], x[test], y[test]

    torch.manual_seed(0)
    model = DigitsNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    steps = epochs * (len(x_train) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x_train))
        for i in range(0, len(order) // 64 * 64, 64):
            batch = order[i : i + 64]
            logits = model(shifted(x_train[batch]))
            loss = nn.functional.cross_entropy(logits, y_train[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}: loss {loss.item():.4f}", flush=True)
    model.eval()
    with torch.no_grad():
        accuracy = float((model(x_test).argmax(1) == y_test).float().mean())
    return model, accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=DIGITS, help="where to write the ONNX file")
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    model, accuracy = train(arguments.epochs)
    torch.onnx.export(
        model, (torch.zeros(1, 1, 8, 8),), str(arguments.out), opset_version=17, dynamo=False,
        input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
    )  # fmt: skip
    print(f"held-out accuracy {accuracy:.2%}; wrote {arguments.out} ({arguments.out.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
