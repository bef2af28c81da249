#!/usr/bin/env bash
# What happens   transformers opens a GGUF file without the scaling of its rotary positions: of a file that stores a linear
#                factor of 8, as those of Gemma 3 from 4B on do, it makes a configuration without one, for Gemma 3 and for
#                Llama. Gemma 3's window layers get the right base all the same, so the model runs, and reads far positions as
#                eight times farther than it was trained to, without a warning.
# Versions       transformers 5.24.0, gguf 0.19.0, torch 2.14.1
# One expects    the factor in rope_parameters, or a refusal, as for architectures that are not known.
# Source         transformers' table of GGUF metadata for each architecture (integrations/ggml.py) has the base of the positions
#                and not their scaling; the key is of the GGUF specification, [arch].rope.scaling.factor.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet transformers==5.24.0 gguf==0.19.0 torch==2.14.1 numpy==2.4.6
venv/bin/python -W ignore - <<'PYTHON'
import gguf
import torch
import transformers
from transformers import AutoConfig

print("transformers", transformers.__version__, "torch", torch.__version__)


def opened(architecture, factor):
    """The configuration that transformers makes of a GGUF file's metadata, which scales positions by a factor."""
    writer = gguf.GGUFWriter("model.gguf", architecture)
    writer.add_context_length(131072)
    writer.add_block_count(6)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_key_length(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(32)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(factor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    fields = gguf.GGUFReader("model.gguf").fields
    stored = float(fields[f"{architecture}.rope.scaling.factor"].parts[-1][0])
    config = AutoConfig.from_pretrained(".", gguf_file="model.gguf")
    print(architecture, "in the file: factor", stored, "| opened:", config.rope_parameters)
    return stored, config.to_dict()


for architecture in ("gemma3", "llama"):
    stored, config = opened(architecture, 8.0)
    assert stored == 8.0, "the file does not hold the factor"
    assert "factor" not in str(config["rope_parameters"]), f"{architecture}: the factor is kept now"
PYTHON
