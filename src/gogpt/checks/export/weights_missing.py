"""EXP730: weights that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import WEIGHTS
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

UNREADABLE = Text(
    en="the weights cannot be used: {problem}",
    zh="无法使用权重：{problem}",
)
MISSING = Text(
    en="{count} tensors that the index names are in no file (first {first})",
    zh="索引所列的 {count} 个张量不在任何文件中（首个：{first}）",
)
EMPTY = Text(
    en="{count} tensors have no element (first {first})",
    zh="{count} 个张量没有元素（首个：{first}）",
)
FIX = Text(
    en="save or download the model again, whole; under ZeRO-3 with stage3_gather_16bit_weights_on_model_save",
    zh="重新完整保存或下载模型；在 ZeRO-3 下启用 stage3_gather_16bit_weights_on_model_save",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.weights
    assert model is not None
    if model.problem:
        yield Finding(code="EXP730", severity=Severity.ERROR, message=UNREADABLE, evidence={"problem": model.problem}, fix=FIX, where=model.path)
        return
    found = model.missing if model.missing.count else model.empty
    if found.count:
        yield Finding(code="EXP730", severity=Severity.ERROR, message=MISSING if found is model.missing else EMPTY, fix=FIX, where=model.path,
                      evidence={"count": found.count, "first": found.first[0], "tensors": model.tensors})


CHECK = Check(
    code="EXP730",
    name="weights_missing",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("weights",),
    run=run,
    page=Page(
        title=Text(
            en="weights are missing",
            zh="缺少权重",
        ),
        what=Text(
            en="Whether every file of a model is whole, holds the tensors that the index names, and no tensor is empty.",
            zh="检查模型的每个文件是否完整、是否包含索引所列的张量，且没有空张量。",
        ),
        why=Text(
            en="transformers fills a missing tensor with random values and warns in a line among many; a ZeRO-3 save without gathering writes tensors of size 0 (deepspeedai/DeepSpeed#7900).",
            zh="transformers 会用随机值填充缺失的张量，只在众多日志中警告一行；未聚合的 ZeRO-3 保存会写出大小为 0 的张量（deepspeedai/DeepSpeed#7900）。",
        ),
        fix=Text(
            en="Compare the sizes with those of the source, and copy again what differs; git lfs pull where files are pointers.",
            zh="与来源比较文件大小，重新复制有差异的文件；若文件是指针则执行 git lfs pull。",
        ),
        example="""error EXP730 models/mine: 2 tensors that the index names are in no file (first model.layers.3.mlp.up_proj.weight)
  fix: save or download the model again, whole; under ZeRO-3 with stage3_gather_16bit_weights_on_model_save

gogpt check models/mine""",
    ),
    fires=(
        Facts(weights=replace(WEIGHTS, missing=Tally(count=2, first=("model.layers.3.mlp.up_proj.weight",)))),
        Facts(weights=replace(WEIGHTS, empty=Tally(count=9, first=("lm_head.weight",)))),
        Facts(weights=replace(WEIGHTS, problem="no weights are in the folder")),
    ),
    silent=(
        Facts(weights=WEIGHTS),
    ),
)
