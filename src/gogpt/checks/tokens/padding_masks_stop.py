"""TOK404: padding a batch takes trained stop tokens out of its labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

SAME = Text(
    en="padding masks {lost} of {stops_in} trained stop tokens: the pad token is the EOS token (id {pad_id})",
    zh="填充屏蔽了 {stops_in} 个被训练的停止符中的 {lost} 个：填充符与 EOS 是同一个 token（id {pad_id}）",
)
OTHER = Text(
    en="padding masks {lost} of {stops_in} trained stop tokens (pad id {pad_id}, EOS id {eos_id})",
    zh="填充屏蔽了 {stops_in} 个被训练的停止符中的 {lost} 个（填充符 id {pad_id}，EOS id {eos_id}）",
)
FIX = Text(
    en="mask padding by length, not by token id, or give the tokenizer a pad token of its own",
    zh="按长度而不是按 token id 屏蔽填充，或为分词器设置单独的填充符",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    if data.collated_stops_out >= data.collated_stops_in:
        return
    evidence = {
        "stops_in": data.collated_stops_in, "stops_out": data.collated_stops_out,
        "lost": data.collated_stops_in - data.collated_stops_out, "pad_id": data.pad_id, "eos_id": data.eos_id,
        "stop_ids": list(data.stop_ids),
    }
    same = data.pad_id is not None and data.pad_id == data.eos_id
    yield Finding(code="TOK404", severity=Severity.ERROR, message=SAME if same else OTHER, evidence=evidence, fix=FIX)


CHECK = Check(
    code="TOK404",
    name="padding_masks_stop",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="padding masks the stop token", zh="填充屏蔽了停止符"),
        what=Text(
            en="Examples are made into batches, and the stop tokens among the labels are counted before and after. Padding "
            "must not take any away.",
            zh="把样本拼成批次，比较拼批前后标签中的停止符数量。填充不得减少任何一个。",
        ),
        why=Text(
            en="Many tokenizers have no pad token and borrow EOS. A collator that masks every pad id then also masks the EOS "
            "that ends the answers, and the model never learns to stop (huggingface/trl#1623, huggingface/trl PR#456, "
            "unslothai/unsloth#416, huggingface/alignment-handbook#127).",
            zh="许多分词器没有填充符，借用 EOS。若拼批时屏蔽所有填充符 id，答案结尾的 EOS 也一并被屏蔽，模型学不会停止"
            "（huggingface/trl#1623、huggingface/trl PR#456、unslothai/unsloth#416、huggingface/alignment-handbook#127）。",
        ),
        fix=Text(
            en="GoGPT builds labels before padding, so that its own batches pass. With a collator of your own, mask by length; "
            "or name a pad token of the tokenizer that is not EOS (many have <|pad|> or <unk>) in tokenizer_config.json.",
            zh="GoGPT 在填充之前就构建标签，因此自带的批次会通过。若使用自己的拼批函数，请按长度屏蔽；"
            "或在 tokenizer_config.json 中指定与 EOS 不同的填充符（许多分词器有 <|pad|> 或 <unk>）。",
        ),
        example="""error TOK404: padding masks 64 of 64 trained stop tokens: the pad token is the EOS token (id 2)
  fix: mask padding by length, not by token id, or give the tokenizer a pad token of its own

# tokenizer_config.json of the model
"pad_token": "<|pad|>",""",
    ),
    fires=(
        Facts(data=replace(DATA, collated_stops_out=0, pad_id=2)),
        Facts(data=replace(DATA, collated_stops_out=63)),
    ),
    silent=(Facts(data=DATA), Facts(data=replace(DATA, pad_id=2)), Facts(data=replace(DATA, collated_stops_in=0, collated_stops_out=0))),
)
