"""A tiny llama-architecture GGUF with random weights, made in milliseconds: a real model for tests that need no sense.

Every token is ASCII, so any answer is valid UTF-8, and control tokens are never the most likely ones: at temperature 0
an answer always runs to `max_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_TEXT_BYTES = [9, 10, 13, *range(32, 127)]
_MERGES = ["t h", "th e", "i n", "a n", "an d", "e r", "o u", "r e", "Ġ t", "Ġt he", "Ġ a", "Ġ s", "Ġ w", "in g", "e s"]
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_HEAD_SIZE = 64


def make_tiny_gguf(path: Path, *, width: int = 64, layers: int = 2, context: int = 2048, seed: int = 0) -> Path:
    """Write the model to `path` and return it.

    Args:
        path: where to; replaced when it exists.
        width: embedding size, a multiple of 64; the default makes a file of about 250 KB.
        layers: transformer blocks.
        context: tokens it claims to have been trained for.
        seed: of the weights.
    """
    tokens = _vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer, width=width, layers=layers, context=context, vocabulary_size=len(tokens))
    _write_tokenizer(writer, tokens)
    _write_tensors(writer, width=width, layers=layers, vocabulary_size=len(tokens), seed=seed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary() -> list[str]:
    """Return control tokens, then bytes as GPT-2 spells them (invisible ones shifted up by 256), then merged ones."""
    invisible = [byte for byte in range(256) if not (33 <= byte < 127 or 161 <= byte < 173 or byte >= 174)]
    spelled = [chr(256 + invisible.index(byte)) if byte in invisible else chr(byte) for byte in _TEXT_BYTES]
    return [*_CONTROL_TOKENS, *spelled, *(merge.replace(" ", "") for merge in _MERGES)]


def _write_shape(writer: Any, *, width: int, layers: int, context: int, vocabulary_size: int) -> None:
    writer.add_name("tiny-random-llama")
    writer.add_description("random weights for tests")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(width // _HEAD_SIZE)
    writer.add_head_count_kv(width // _HEAD_SIZE)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD_SIZE)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary_size)


def _write_tokenizer(writer: Any, tokens: list[str]) -> None:
    kinds = [gguf.TokenType.CONTROL] * len(_CONTROL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds + [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds)))
    writer.add_token_merges(_MERGES)
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(_CHAT_TEMPLATE)


def _write_tensors(writer: Any, *, width: int, layers: int, vocabulary_size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)

    def add_matrix(name: str, rows: int, columns: int, *, scale: float, zero_rows: int = 0) -> None:
        values = generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)
        values[:zero_rows] = 0
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, dtype=np.float32))

    add_matrix("token_embd", vocabulary_size, width, scale=1.0)
    for layer in range(layers):
        block = f"blk.{layer}"
        add_norm(f"{block}.attn_norm")
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add_matrix(f"{block}.{name}", width, width, scale=width**-0.5)
        add_norm(f"{block}.ffn_norm")
        add_matrix(f"{block}.ffn_gate", 2 * width, width, scale=width**-0.5)
        add_matrix(f"{block}.ffn_up", 2 * width, width, scale=width**-0.5)
        add_matrix(f"{block}.ffn_down", width, 2 * width, scale=(2 * width) ** -0.5)
    add_norm("output_norm")
    # A logit of exactly 0 is never the highest of a hundred random ones.
    add_matrix("output", vocabulary_size, width, scale=width**-0.5, zero_rows=len(_CONTROL_TOKENS))
