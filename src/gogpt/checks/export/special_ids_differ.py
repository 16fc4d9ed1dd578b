"""EXP733: configurations that name other special tokens than the tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the configuration and the tokenizer do not agree on {which}",
    zh="配置与分词器在 {which} 上不一致",
)
FIX = Text(
    en="write the tokenizer's ids into config.json and generation_config.json",
    zh="把分词器的 id 写入 config.json 和 generation_config.json",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.special_ids:
        yield Finding(code="EXP733", severity=Severity.WARNING, message=MESSAGE, fix=FIX, where=model.path,
                      evidence={"which": "; ".join(f"{k} ({v})" for k, v in model.special_ids.items())})


CHECK = Check(
    code="EXP733",
    name="special_ids_differ",
    stage=Stage.EXPORT,
    severity=Severity.WARNING,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="special ids differ",
            zh="特殊 id 不一致",
        ),
        what=Text(
            en="Whether eos_token_id and bos_token_id of config.json and generation_config.json are, or contain, the tokenizer's own, and are ids of its vocabulary.",
            zh="检查 config.json 和 generation_config.json 的 eos_token_id、bos_token_id 是否为（或包含）分词器自己的 id，且在其词表之内。",
        ),
        why=Text(
            en="Generation waits for the id of the configuration; the trained one is another, and answers do not end (axolotl-ai-cloud/axolotl#3754; huggingface/trl#1623).",
            zh="生成等待的是配置中的 id，而训练的是另一个，于是答案不会结束（axolotl-ai-cloud/axolotl#3754；huggingface/trl#1623）。",
        ),
        fix=Text(
            en="A list is allowed: eos_token_id: [128001, 128009].",
            zh="可以写成列表：eos_token_id: [128001, 128009]。",
        ),
        example="""warning EXP733 models/mine: the configuration and the tokenizer do not agree on eos_token_id (config.json 0, tokenizer 2)
  fix: write the tokenizer's ids into config.json and generation_config.json

{"eos_token_id": [2]}""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, special_ids={"eos_token_id": "config.json 0, tokenizer 2"})),
    ),
    silent=(
        Facts(weights=WEIGHTS),
    ),
)
