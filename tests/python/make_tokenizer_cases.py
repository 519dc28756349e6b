#!/usr/bin/env python3
"""Makes tokenizers and cases with the tokenizers package, for the C++ tokenizer to be compared with.

    make_tokenizer_cases.py --demo models/demo/tokenizer.json --out DIR

writes for each tokenizer DIR/NAME/tokenizer.json (the file read by both sides) and DIR/NAME/cases.json, a list of
{"bytes": the text's bytes in hexadecimal (not always UTF-8), "ids": [...], "ids_with_specials": [...],
"ids_to_decode": [...], "decoded": "...", "decoded_without_specials": "..."}, where ids_with_specials is left out if it
is ids, ids_to_decode if it is ids_with_specials, and decoded_without_specials if it is decoded; plus DIR/manifest.json, the list of names.
Everything is drawn from fixed seeds.
"""

import argparse
import base64
import json
import pathlib
import random

import mistral_common
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

TEKKEN_VOCAB_SIZE = 131072
TEKKEN_NUM_SPECIAL = 1000
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace("{1,3}", "")
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

CODE = '''import triton
import triton.language as tl

@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n_elements, BLOCK_SIZE: tl.constexpr):
    pid = tl.program_id(axis=0)
    offsets = pid * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = offsets < n_elements
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0)
\ty = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)  # 1234567890 == 0x1F'ff

template <typename T, int kN> __global__ void f(const T* __restrict__ p) {\r\n  if (!p) return;\r\n}
We'll see that it's what they've said, isn't it? I'D say SO, they'RE OK; 'tis l'été, don\u2019t.
'''
PHRASES = [
    "the quick brown fox", "Naïve café, jalapeño", "ﬁne oﬃce Straße ΑΣ ΟΔΟΣ", "你好，世界。今天天气不错", "日本語テキスト、カタカナ",
    "한국어 문장입니다", "Привет, мир!", "שלום עולם", "مرحبا بالعالم ١٢٣", "हिन्दी में लिखा", "ไทยไม่มีวรรค", "e\u0301a\u0308o\u0302\u0323",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️", "½ ² Ⅷ ① ٣ ৪", "ǅ ǈ ʰʲ ªº", "'s 'S 'ſ 'LL 'll 'Re 'vE", "K\u212A \u017F \u0130ı",
]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u180e", "\u200b", "\x0b",
          "\x0c", "\x1c", "\ufeff"]
ASCII = "".join(map(chr, range(128)))


def any_code_point(rng):
    while True:
        plane = rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 14, rng.randrange(17)])
        code_point = plane << 16 | rng.randrange(0x10000)
        if not 0xD800 <= code_point <= 0xDFFF:
            return chr(code_point)


def any_piece(rng, specials):
    kind = rng.randrange(13)
    if kind == 0:
        return rng.choice(SPACES) * rng.choice([1, 1, 2, 3, 8, 40])
    if kind == 1:
        begin = rng.randrange(len(CODE))
        return CODE[begin : begin + rng.randrange(1, 120)]
    if kind == 2:
        return "".join(rng.choice(ASCII) for _ in range(rng.randrange(1, 20)))
    if kind == 3:
        return "".join(any_code_point(rng) for _ in range(rng.randrange(1, 8)))
    if kind == 4:
        base = rng.randrange(0x2000) * 16  # neighbours, so mostly of one script
        return "".join(chr(base + rng.randrange(32)) for _ in range(6) if not 0xD7E0 <= base <= 0xDFFF)
    if kind == 5 and specials:
        special = rng.choice(specials)
        return rng.choice([special, special * 2, special[:-1], " " + special + " ", "a" + special + "b", special.upper()])
    if kind == 6:
        return rng.choice("aA=-_./\\Zéя中0!") * rng.choice([2, 3, 7, 60])
    if kind == 7:
        return str(rng.randrange(10 ** rng.randrange(1, 15)))
    if kind == 8:
        return "".join(rng.choice("abcdefXYZ_") for _ in range(rng.randrange(1, 25)))
    if kind == 9:
        return rng.choice(["\u0300", "\u0301", "\u093f", "\u20dd", "\ufe0f", "\u200d", "\U0001f3fd"]) * rng.randrange(1, 4)
    if kind == 10:
        return " " * rng.randrange(1, 9) + rng.choice(["return", "if", "#", "x", "\n", "(", "1"])
    return rng.choice(PHRASES)


def any_bytes(rng, specials):
    text = "".join(any_piece(rng, specials) for _ in range(rng.choice([0, 1, 1, 2, 3, 5, 9, 14])))
    data = bytearray(text.encode())
    if rng.random() < 0.15:  # as clients send it: cut, overwritten, mixed with other encodings
        for _ in range(rng.randrange(1, 5)):
            if data and rng.random() < 0.5:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif data and rng.random() < 0.5:
                del data[rng.randrange(len(data))]
            else:
                place = rng.randrange(len(data) + 1)
                data[place:place] = bytes(rng.randrange(128, 256) for _ in range(rng.randrange(1, 5)))
    return bytes(data)


def every_code_point(stride):
    """Strings in which code points of every block stand between letters, digits, spaces and signs."""
    rng = random.Random(5)
    for first in range(0, 0x110000, 256):
        chars = [chr(c) for c in range(first + rng.randrange(stride), first + 256, stride) if not 0xD800 <= c <= 0xDFFF]
        if chars:
            yield "".join(c + rng.choice(["a", "A", " ", "1", "\n", "=", "", ""]) for c in chars).encode()


def long_words():
    """Words of thousands of bytes, which ours merges by another queue than short ones."""
    rng = random.Random(8)
    for alphabet in ["a", "=", " ", "\n", "=-", "aeinorst", "ABCDEFGHabcdefgh", "的一是不了人", "\u0301", " \n", "the constexpr load"]:
        for length in [513, 2000]:
            yield "".join(rng.choice(alphabet) for _ in range(length)).encode()
            yield (alphabet * length)[:length].encode()


def make_cases(tokenizer, inputs):
    texts = [data.decode("utf-8", errors="replace") for data in inputs]
    plain = tokenizer.encode_batch(texts, add_special_tokens=False)
    framed = tokenizer.encode_batch(texts, add_special_tokens=True)
    rng = random.Random(3)
    vocab_size = tokenizer.get_vocab_size()
    cases = []
    for data, one, two in zip(inputs, plain, framed):
        # What is decoded is not only what encode gives: a model may emit any ids, also some that are no token's.
        ids = two.ids if rng.random() < 0.7 else [rng.randrange(vocab_size + 20) for _ in range(rng.randrange(12))]
        case = {"bytes": data.hex(), "ids": one.ids, "ids_with_specials": two.ids, "ids_to_decode": ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_without_specials": tokenizer.decode(ids, skip_special_tokens=True)}
        # Backwards, so that each is compared with what it would fall back to.
        for key, fallback in [("decoded_without_specials", "decoded"), ("ids_to_decode", "ids_with_specials"),
                              ("ids_with_specials", "ids")]:
            if case[key] == case[fallback]:
                del case[key]
        cases.append(case)
    return cases


def byte_spellings():
    """The byte alphabet, from the package itself: U+0021.. for printable bytes, U+0100.. for the others, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    spellings = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    assert set(spellings.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    return spellings


def tekken_json():
    """tekken's vocabulary as a Hugging Face tokenizer: special tokens first, as the checkpoint has it."""
    path = pathlib.Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    tekken = json.loads(path.read_text())
    spell = byte_spellings()
    ranked = [base64.b64decode(entry["token_bytes"]) for entry in tekken["vocab"]]
    ranked = ranked[: TEKKEN_VOCAB_SIZE - TEKKEN_NUM_SPECIAL]
    rank = {token: i for i, token in enumerate(ranked)}
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    names += [f"<SPECIAL_{i}>" for i in range(len(names), TEKKEN_NUM_SPECIAL)]
    spelling = ["".join(spell[b] for b in token) for token in ranked]
    merges = []
    for i, token in enumerate(ranked):
        # Every way to join it of two tokens; the token's rank orders them, then the parts' ranks.
        parts = [(token[:k], token[k:]) for k in range(1, len(token))]
        parts = [(rank[a], rank[b]) for a, b in parts if a in rank and b in rank]
        merges += [[spelling[a], spelling[b]] for a, b in sorted(parts)]
    vocab = {name: i for i, name in enumerate(names)}
    vocab |= {text: TEKKEN_NUM_SPECIAL + i for i, text in enumerate(spelling)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for i, name in enumerate(names)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": tekken["config"]["pattern"]}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(pattern if isinstance(pattern, str) else Regex(pattern[0]), behavior, invert)


def byte_level(prefix=False, regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def template(single):
    return processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])


ADDED = [
    AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False),
    AddedToken("<left>", lstrip=True, special=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
    AddedToken("<both>", lstrip=True, rstrip=True, normalized=True), AddedToken("word", single_word=True, normalized=False),
    AddedToken("wordy", normalized=True), AddedToken("<tool", normalized=False), AddedToken("<tool_call>", normalized=False),
    AddedToken("  ", normalized=True), AddedToken("\n\n\n", normalized=False), AddedToken("é", normalized=False),
    AddedToken("tête-à-tête", single_word=True, normalized=True), AddedToken(" x", normalized=False),
]


def variants():
    """Name, pre-tokenizer, post-processor, and what to change in the model: each varies one thing."""
    frame = template("<s> $A </s>")
    yield "gpt2", byte_level(regex=True), frame, {}
    yield "prefix_space", byte_level(prefix=True, regex=True), processors.ByteLevel(trim_offsets=False), {}
    yield "prefix_space_per_piece", pre_tokenizers.Sequence([split("_"), byte_level(prefix=True)]), None, {}
    yield "llama3_ignore_merges", pre_tokenizers.Sequence([split((LLAMA3_PATTERN,)), byte_level()]), \
        processors.Sequence([processors.ByteLevel(), template("<s> $A </s> <s>")]), {"ignore_merges": True}
    yield "qwen2_merges_as_strings", pre_tokenizers.Sequence([split((QWEN2_PATTERN,)), byte_level()]), None, {"strings": True}
    for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]:
        for invert in [False, True]:
            name = f"{behavior}{'_inverted' if invert else ''}"
            yield name, pre_tokenizers.Sequence([split((r"\s+|\d|_",), behavior, invert), byte_level()]), None, {}
    yield "empty_matches", pre_tokenizers.Sequence([split((r"\d*",), "merged_with_next"), split((r"^|(?<=a)",), "isolated"),
                                                    byte_level()]), None, {}
    yield "string_pattern", pre_tokenizers.Sequence([split("a.", "merged_with_previous"), byte_level()]), None, {}
    yield "digits", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(regex=True)]), None, {}
    yield "digit_runs", pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), byte_level()]), None, {}
    yield "several_splits", pre_tokenizers.Sequence([
        split((r"[\r\n]",)), split((r"\s?\p{L}+",)), split((r"\s?\p{P}+",)), split((r"[一-龥ࠀ-一가-퟿]+",)),
        pre_tokenizers.Digits(individual_digits=True), byte_level()]), None, {}
    yield "constructs", pre_tokenizers.Sequence([split((
        r"(?i:[sdmt]|ll|ve|re)(?=\W|\z)".replace(r"\W", r"[^\p{L}]") + r"|\u00e9\x41{2,3}|[\t\v\-\]]++|(?<!b)c{,2}d|^#.*$"
        r"|\A\P{L}|\p{^N}\p{Nd}(?>x?)\n\Z",)), byte_level()]), None, {}


def synthetic(pre_tokenizer, post_processor, change):
    trained = Tokenizer(models.BPE(ignore_merges=change.get("ignore_merges", False)))
    trained.pre_tokenizer = byte_level(regex=True)
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  special_tokens=["<s>", "</s>"])
    trained.train_from_iterator([CODE, *PHRASES] * 3, trainer)
    trained.add_tokens(ADDED)
    trained.pre_tokenizer = pre_tokenizer
    trained.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()]) if post_processor else decoders.ByteLevel()
    if post_processor:
        trained.post_processor = post_processor
    described = json.loads(trained.to_str())
    if change.get("strings"):
        described["model"]["merges"] = [" ".join(pair) for pair in described["model"]["merges"]]
    if change.get("ignore_merges"):  # words that no merges lead to
        vocab = described["model"]["vocab"]
        moved = len(vocab)
        for token in described["added_tokens"]:
            token["id"] += 2 if token["id"] >= moved else 0
        vocab["Ġconstexprs"], vocab["zqzq"] = moved, moved + 1
    return described


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=pathlib.Path, required=True, help="the demo checkpoint's tokenizer.json")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--num", type=int, default=10000, help="strings for each of the two large vocabularies")
    parser.add_argument("--num-synthetic", type=int, default=400, help="strings for each small tokenizer")
    parser.add_argument("--stride", type=int, default=31, help="every how manieth code point of each block")
    args = parser.parse_args()

    described = {"demo": json.loads(args.demo.read_text()), "tekken": tekken_json()}
    described |= {name: synthetic(*rest) for name, *rest in variants()}
    for name, description in described.items():
        folder = args.out / name
        folder.mkdir(parents=True)
        text = json.dumps(description, ensure_ascii=name == "demo")
        (folder / "tokenizer.json").write_text(text)
        tokenizer = Tokenizer.from_str(text)
        specials = [token["content"] for token in description["added_tokens"]][:64] + ["zqzq", " constexprs"]
        large = name in ("demo", "tekken")
        rng = random.Random(11)  # the same texts for both large vocabularies, but for the specials in them
        inputs = [any_bytes(rng, specials) for _ in range(args.num if large else args.num_synthetic)]
        if large:
            inputs += [*long_words(), *every_code_point(args.stride)]
        (folder / "cases.json").write_text(json.dumps(make_cases(tokenizer, inputs)))
    (args.out / "manifest.json").write_text(json.dumps(list(described)))
    print(f"tokenizers {tokenizers.__version__}: {len(described)} tokenizers in {args.out}")


if __name__ == "__main__":
    main()
