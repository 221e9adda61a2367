#!/bin/sh
# diffusers 0.42.1: AutoencoderTiny.forward gives its encoder no gradient, and a loss on it teaches the decoder alone.
#
# The other autoencoders of diffusers are trained by model(x).sample. AutoencoderTiny.forward rounds the latents to bytes
# between encoder and decoder, as if they were stored as a picture. Rounding to bytes has no gradient, and nothing says
# so: training runs, the loss falls as far as the decoder takes it, and the encoder keeps its random weights. Calling
# encode and decode one after the other trains both.
#
# Seen: after a backward from forward 0 of 17 weights of the encoder have a gradient; from decode(encode(x)) all have.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diffusers==0.42.1 torch==2.14.1 transformers==5.23.0
cat > "$folder/train.py" <<'PYTHON'
import torch
from diffusers import AutoencoderTiny


def with_gradient(way):
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)
    )
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    made = vae(picture).sample if way == "forward" else vae.decode(vae.encode(picture).latents).sample
    (made - picture).square().mean().backward()
    parts = {}
    for part in ("encoder", "decoder"):
        weights = list(getattr(vae, part).parameters())
        parts[part] = f"{sum(weight.grad is not None for weight in weights)}/{len(weights)}"
    return f"{way}: encoder {parts['encoder']}, decoder {parts['decoder']}"


print(with_gradient("forward"))
print(with_gradient("encode, decode"))
PYTHON
"$folder/venv/bin/python" "$folder/train.py" 2>/dev/null > "$folder/seen"
cat "$folder/seen"
printf 'forward: encoder 0/17, decoder 17/17\nencode, decode: encoder 17/17, decoder 17/17\n' | diff - "$folder/seen" ||
    { echo "the behaviour has changed"; exit 1; }
