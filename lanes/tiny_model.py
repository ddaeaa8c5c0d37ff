"""A tiny random-weight Llama checkpoint, made in seconds: what vLLM and transformers serve in the lanes.

Every token is printable ASCII, so that each one shows as text of its own, and control tokens are never the most likely
ones: at temperature 0 an answer always runs to `max_tokens`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

_CONTROL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
_CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CONTEXT = 2048


def make_tiny_model(folder: Path) -> Path:
    """Write the checkpoint and its tokenizer to `folder` and return it."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    end, begin, pad = (tokenizer.convert_tokens_to_ids(_CONTROL_TOKENS[number]) for number in (2, 0, 3))
    ids = {"eos_token_id": end, "bos_token_id": begin, "pad_token_id": pad}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=False,
        **ids,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    with torch.no_grad():
        # A logit of exactly 0 is never the highest of a hundred random ones.
        model.lm_head.weight[: len(_CONTROL_TOKENS)] = 0
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters: GPT-2's spelling of bytes, of which only ASCII's are known."""
    spelled = ["Ċ", "Ġ", *map(chr, range(33, 127))]
    vocabulary = {token: number for number, token in enumerate([*_CONTROL_TOKENS, *spelled])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _CONTROL_TOKENS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_CONTROL_TOKENS[0],
        eos_token=_CONTROL_TOKENS[2],
        pad_token=_CONTROL_TOKENS[3],
        model_max_length=_CONTEXT,
    )
    fast.chat_template = _CHAT_TEMPLATE
    return fast
