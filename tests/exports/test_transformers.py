# SPDX-License-Identifier: Apache-2.0
"""Small models of transformers, exported by torch, agree with ONNX Runtime: fixed, and with open axes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exports.networks import agree, export

torch = pytest.importorskip("torch", reason="torch is not installed: it writes the models of these tests")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: the models of these tests are its"
)

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
}
ROTARY = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": 99,
    "decoder_start_token_id": 0,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "vocab_size": 99,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "max_source_positions": 20,
    "num_mel_bins": 16,
}
WAVE = {**SMALL, "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


class Wrapped(torch.nn.Module):
    """Positional inputs by name, the first output only."""

    def __init__(self, model: Any, names: list[str], more: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.names, self.more = model, names, more

    def forward(self, *inputs: Any) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True)), **self.more)[0]


def tokens(batch: int, length: int) -> Any:
    return torch.randint(3, 99, (batch, length))


def build(
    cls: str, config: str, sizes: dict[str, Any], inputs: dict[str, Any], attention: str = "sdpa", **more: Any
) -> Any:
    torch.manual_seed(0)
    made = getattr(transformers, config)(**sizes)
    made._attn_implementation = attention
    return Wrapped(getattr(transformers, cls)(made).eval(), list(inputs), {**more, "return_dict": False})


def encoder(batch: int = 2, length: int = 12) -> dict[str, Any]:
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length // 2 :] = 0
    return {"input_ids": tokens(batch, length), "attention_mask": mask}


ENCODERS = {
    "bert": ("BertModel", "BertConfig", SMALL, "sdpa"),
    "bert_eager": ("BertModel", "BertConfig", SMALL, "eager"),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99},
        "sdpa",
    ),
    "albert": ("AlbertModel", "AlbertConfig", {**SMALL, "embedding_size": 16}, "sdpa"),
    "roberta": ("RobertaModel", "RobertaConfig", SMALL, "sdpa"),
    "mpnet": ("MPNetModel", "MPNetConfig", SMALL, "eager"),
    "t5_encoder": ("T5EncoderModel", "T5Config", T5, "eager"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name: str) -> None:
    cls, config, sizes, attention = ENCODERS[name]
    inputs = encoder()
    agree(export(build(cls, config, sizes, inputs, attention), inputs), inputs)


@pytest.mark.parametrize("name", ["bert", "bert_eager", "distilbert", "t5_encoder"])
def test_encoder_with_open_batch_and_length(name: str) -> None:
    cls, config, sizes, attention = ENCODERS[name]
    inputs = encoder()
    model = export(
        build(cls, config, sizes, inputs, attention), inputs, dynamic={k: {0: "N", 1: "T"} for k in inputs}
    )
    agree(model, inputs, encoder(1, 5), encoder(4, 31), shapes={k: ("N<=8", "T<=48") for k in inputs})


DECODERS = {
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
        "eager",
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", ROTARY, "eager"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", ROTARY, "eager"),
}


@pytest.mark.parametrize("name", DECODERS)
def test_decoder_over_a_prompt(name: str) -> None:
    cls, config, sizes, attention = DECODERS[name]
    inputs = encoder(1, 11)
    module = build(cls, config, sizes, inputs, attention, use_cache=False)
    agree(export(module, inputs), inputs)


@pytest.mark.parametrize(
    "cls,config,sizes", [DECODERS["gpt2"][:3], DECODERS["llama"][:3]], ids=["gpt2", "llama"]
)
def test_decoder_step_behind_a_cache(cls: str, config: str, sizes: dict[str, Any]) -> None:
    """One token and the keys and values of those before it, whose number is open."""
    heads = sizes.get("num_key_value_heads", 4)

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = build(cls, config, sizes, {}, "eager").model

        def forward(self, ids: Any, mask: Any, k0: Any, v0: Any, k1: Any, v1: Any) -> Any:
            cache = transformers.cache_utils.DynamicCache()
            cache.update(k0, v0, 0)
            cache.update(k1, v1, 1)
            y = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
            after = [t for layer in y.past_key_values.layers for t in (layer.keys, layer.values)]
            return (y.logits, *after)

    def inputs(past: int) -> dict[str, Any]:
        states = {n: torch.randn(1, heads, past, 8) for n in ("k0", "v0", "k1", "v1")}
        return {"ids": tokens(1, 1), "mask": torch.ones(1, past + 1, dtype=torch.long), **states}

    open_axes = {"mask": {1: "S"}, **{n: {2: "P"} for n in ("k0", "v0", "k1", "v1")}}
    model = export(Step(), inputs(6), dynamic=open_axes)
    agree(model, inputs(6), inputs(7), inputs(20))


def test_encoder_and_decoder() -> None:
    inputs = {**encoder(1, 9), "decoder_input_ids": tokens(1, 5)}
    module = build("T5ForConditionalGeneration", "T5Config", T5, inputs, "eager", use_cache=False)
    agree(export(module, inputs), inputs)


def test_speech() -> None:
    inputs = {
        "input_features": torch.randn(1, 16, 40),
        "decoder_input_ids": tokens(1, 4),
        "decoder_attention_mask": torch.ones(1, 4, dtype=torch.long),
    }
    module = build("WhisperForConditionalGeneration", "WhisperConfig", WHISPER, inputs, use_cache=False)
    agree(export(module, inputs), inputs)
    wave = {"input_values": torch.randn(1, 2000)}
    agree(export(build("Wav2Vec2ForCTC", "Wav2Vec2Config", WAVE, wave), wave), wave)


def test_images() -> None:
    picture = {"pixel_values": torch.randn(1, 3, 32, 32)}
    vision = {k: v for k, v in SMALL.items() if k != "vocab_size"}
    clip = build(
        "CLIPVisionModel", "CLIPVisionConfig", {**vision, "image_size": 32, "patch_size": 8}, picture
    )
    agree(export(clip, picture), picture)
    sizes = {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16, "num_labels": 5}
    segformer = build("SegformerForSemanticSegmentation", "SegformerConfig", sizes, picture)
    agree(export(segformer, picture), picture)
