#!/bin/sh
# transformers 5.23.0: a BertTokenizer that is given its words as `vocab_file`, the name of transformers 4, ignores them, says
# nothing, and reads every word as [UNK]. The name is `vocab` now. A BLIP with such a tokenizer reads all texts of one length
# alike.
#
# Seen: "vocab_file: 5 words, [UNK] [UNK] [UNK]" and "vocab: 8 words, a red square".
set -e
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet transformers==5.23.0
printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nred\nsquare\n' > "$place/vocab.txt"
"$place/venv/bin/python" - "$place/vocab.txt" <<'PYTHON'
import sys

from transformers import BertTokenizer, __version__

for name in ("vocab_file", "vocab"):
    tokenizer = BertTokenizer(**{name: sys.argv[1]})
    words = tokenizer.tokenize("a red square")
    print(f"{name}: {len(tokenizer)} words, {' '.join(words)}")
    wanted = ["[UNK]"] * 3 if name == "vocab_file" else ["a", "red", "square"]
    assert words == wanted, f"transformers {__version__} behaves otherwise now"
PYTHON
