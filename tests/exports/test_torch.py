# SPDX-License-Identifier: Apache-2.0
"""Small networks of many families, as torch exports them, agree with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.exports.networks import agree, export

torch = pytest.importorskip("torch", reason="torch is not installed: it writes the models of these tests")
nn, F = torch.nn, torch.nn.functional


def rand(*shape: int) -> Any:
    return torch.randn(*shape)


class Lambda(nn.Module):
    """A function of tensors and of layers."""

    def __init__(self, function: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def bn(channels: int) -> Any:
    layer = nn.BatchNorm2d(channels)
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    return layer


def conv(i: int, o: int, k: int = 3, **more: Any) -> Any:
    return nn.Sequential(nn.Conv2d(i, o, k, padding=k // 2, **more), bn(o), nn.ReLU())


def shuffle(m: Any, x: Any) -> Any:
    a, b = m.stem(x).chunk(2, dim=1)
    y = torch.cat([a, m.branch(b)], 1)
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def dense(m: Any, x: Any) -> Any:
    for layer in (m.a, m.b, m.c):
        x = torch.cat([x, layer(x)], 1)
    return x


def channels_last(m: Any, x: Any) -> Any:
    y = m.deep(x).permute(0, 2, 3, 1)
    y = m.down(F.gelu(m.up(m.norm(y)))) * m.gamma
    return x + y.permute(0, 3, 1, 2)


def excite(m: Any, x: Any) -> Any:
    y = F.hardswish(m.stem(x))
    return y * F.hardsigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(y, 1)))))


def windows(m: Any, x: Any) -> Any:
    x = torch.roll(x.permute(0, 2, 3, 1), (-2, -2), (1, 2))
    n, h, w, c = x.shape
    x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    q, k, v = m.qkv(m.norm(x)).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
    y = torch.softmax(q @ k.transpose(-2, -1) * 0.3 + m.bias, -1) @ v
    y = y.transpose(1, 2).reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
    return torch.roll(y, (2, 2), (1, 2))


def ladder(m: Any, x: Any) -> Any:
    a = m.a(x)
    b = m.up(m.b(F.max_pool2d(a, 2)))
    return m.c(torch.cat([a, b, F.interpolate(m.b(F.max_pool2d(a, 2)), scale_factor=2, mode="bilinear")], 1))


def self_attention(m: Any, x: Any) -> Any:
    n, c, h, w = x.shape
    y = m.norm(x)
    q, k, v = (f(y).reshape(n, c, h * w).permute(0, 2, 1) for f in (m.q, m.k, m.v))
    return x + F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0].permute(
        0, 2, 1
    ).reshape(n, c, h, w)


def crnn(m: Any, x: Any) -> Any:
    return m.head(m.rnn(m.stem(x).mean(2).permute(2, 0, 1))[0])


NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "vgg": lambda: (
        nn.Sequential(conv(3, 8), conv(8, 16), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 64, 10)),
        rand(2, 3, 16, 16),
    ),
    "dense": lambda: (Lambda(dense, a=conv(5, 12), b=conv(17, 12), c=conv(29, 12)), rand(1, 5, 9, 9)),
    "grouped": lambda: (nn.Sequential(conv(3, 32), conv(32, 64, groups=8, stride=2)), rand(1, 3, 17, 17)),
    "dilated": lambda: (nn.Sequential(conv(3, 16), nn.Conv2d(16, 8, 3, dilation=3)), rand(1, 3, 20, 20)),
    "shuffle": lambda: (Lambda(shuffle, stem=conv(3, 44), branch=conv(22, 22, groups=22)), rand(1, 3, 8, 8)),
    "excite": lambda: (
        Lambda(excite, stem=conv(3, 24), down=nn.Conv2d(24, 6, 1), up=nn.Conv2d(6, 24, 1)),
        rand(2, 3, 12, 12),
    ),
    "channels_last": lambda: (
        Lambda(
            channels_last,
            deep=nn.Conv2d(24, 24, 7, padding=3, groups=24),
            norm=nn.LayerNorm(24),
            up=nn.Linear(24, 96),
            down=nn.Linear(96, 24),
            gamma=nn.Parameter(rand(24)),
        ),
        rand(1, 24, 14, 14),
    ),
    "windows": lambda: (
        Lambda(windows, norm=nn.LayerNorm(16), qkv=nn.Linear(16, 48), bias=nn.Parameter(rand(2, 16, 16))),
        rand(1, 16, 8, 8),
    ),
    "ladder": lambda: (
        Lambda(ladder, a=conv(3, 16), b=conv(16, 20), up=nn.ConvTranspose2d(20, 16, 2, 2), c=conv(52, 4)),
        rand(1, 3, 16, 16),
    ),
    "attention_on_pixels": lambda: (
        Lambda(
            self_attention,
            norm=nn.GroupNorm(4, 24),
            q=nn.Conv2d(24, 24, 1),
            k=nn.Conv2d(24, 24, 1),
            v=nn.Conv2d(24, 24, 1),
        ),
        rand(2, 24, 6, 6),
    ),
    "group_norm": lambda: (
        nn.Sequential(nn.Conv2d(3, 24, 3), nn.GroupNorm(6, 24), nn.SiLU(), nn.Conv2d(24, 8, 3)),
        rand(2, 3, 11, 11),
    ),
    "style": lambda: (
        nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(3, 20, 5),
            nn.InstanceNorm2d(20, affine=True),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.ReflectionPad2d(1),
            nn.Conv2d(20, 3, 3),
        ),
        rand(1, 3, 13, 13),
    ),
    "super_resolution": lambda: (
        nn.Sequential(
            conv(1, 16),
            nn.Conv2d(16, 64, 3, padding=1),
            nn.PixelShuffle(2),
            nn.Conv2d(16, 9, 1),
            nn.PixelShuffle(3),
        ),
        rand(1, 1, 10, 12),
    ),
    "generator": lambda: (
        nn.Sequential(
            nn.ConvTranspose2d(12, 32, 4),
            bn(32),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
            nn.Tanh(),
        ),
        rand(2, 12, 1, 1),
    ),
    "video": lambda: (
        nn.Sequential(
            nn.Conv3d(1, 16, 3, 2, 1),
            nn.InstanceNorm3d(16),
            nn.ReLU(),
            nn.ConvTranspose3d(16, 4, 2, 2),
            nn.Softmax(1),
        ),
        rand(1, 1, 8, 8, 8),
    ),
    "crnn": lambda: (
        Lambda(crnn, stem=conv(1, 32), rnn=nn.LSTM(32, 16, 2, bidirectional=True), head=nn.Linear(32, 11)),
        rand(1, 1, 8, 24),
    ),
    "gru": lambda: (
        Lambda(lambda m, x: m.rnn(x)[0], rnn=nn.GRU(8, 16, 2, bidirectional=True)),
        rand(7, 3, 8),
    ),
    "temporal": lambda: (
        nn.Sequential(
            nn.ConstantPad1d((8, 0), 0.0),
            nn.Conv1d(6, 24, 3, dilation=4),
            nn.PReLU(),
            nn.GroupNorm(1, 24),
            nn.Conv1d(24, 5, 1),
        ),
        rand(2, 6, 40),
    ),
    "spectrogram": lambda: (
        Lambda(
            lambda m, x: (
                torch.stft(x, 64, 16, window=torch.hann_window(64), center=False, return_complex=False) ** 2
            ).sum(-1)
        ),
        rand(2, 400),
    ),
    "scores": lambda: (
        Lambda(
            lambda m, x: (
                torch.topk(x, 3)[1],
                x.argmax(1),
                torch.cumsum(x, 1),
                x.norm(dim=1),
                torch.logsumexp(x, 1),
                torch.where(x > 0, x, x.roll(2, 1)),
                x.flip(1),
                x.clamp(-1, 1),
                x.std(1),
            )
        ),
        rand(5, 12),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_agrees(name: str) -> None:
    torch.manual_seed(0)
    module, x = NETWORKS[name]()
    agree(export(module, {"x": x}), {"x": x})


@pytest.mark.parametrize("name", ["grouped", "excite", "channels_last", "group_norm"])
def test_agrees_at_any_batch(name: str) -> None:
    torch.manual_seed(0)
    module, x = NETWORKS[name]()
    model = export(module, {"x": x}, dynamic={"x": {0: "N"}})
    bigger = torch.cat([x, x * 0.5 + 1, -x])
    agree(model, {"x": x}, {"x": bigger}, shapes={"x": ("N<=8", *x.shape[1:])})
