"""EXP723: another base than the one that the adapter was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ADAPTER
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

DIFFERS = Text(
    en="{base} is not the base that the adapter was trained on: {why}",
    zh="{base} 不是训练该适配器的基座：{why}",
)
MISSING = Text(
    en="the adapter names the base {base}, which is not here",
    zh="适配器所指的基座 {base} 不在本地",
)
FIX = Text(
    en="name the base that it was trained on: --base FOLDER",
    zh="指明训练所用的基座：--base FOLDER",
)


def run(facts: Facts) -> Iterator[Finding]:
    adapter = facts.adapter
    assert adapter is not None
    if adapter.base_differs:
        yield Finding(code="EXP723", severity=Severity.ERROR, message=DIFFERS, evidence={"base": adapter.base_found, "why": adapter.base_differs}, fix=FIX, where=adapter.path)
    elif adapter.base_found is None and adapter.base and adapter.base.startswith(("/", ".", "~")):
        yield Finding(code="EXP723", severity=Severity.WARNING, message=MISSING, evidence={"base": adapter.base}, fix=FIX, where=adapter.path)


CHECK = Check(
    code="EXP723",
    name="adapter_other_base",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("adapter",),
    run=run,
    page=Page(
        title=Text(
            en="another base than the adapter's",
            zh="基座与适配器不符",
        ),
        what=Text(
            en="Whether the base has the fingerprint that was noted beside the adapter (of runs of GoGPT), and whether a base that is named as a path is there.",
            zh="检查基座的指纹是否与适配器旁的记录相符（GoGPT 的训练），以及以路径指定的基座是否存在。",
        ),
        why=Text(
            en="An adapter adds to the weights that it was trained on. On others of the same shapes it loads without a word and answers worse (unslothai/unsloth-zoo PR#810, huggingface/peft#2321).",
            zh="适配器叠加在训练所用的权重上。换成形状相同的另一套权重也能加载，却答得更差（unslothai/unsloth-zoo PR#810、huggingface/peft#2321）。",
        ),
        fix=Text(
            en="Keep the base that the run used, or train the adapter again on the new one.",
            zh="保留训练所用的基座，或在新基座上重新训练。",
        ),
        example="""error EXP723 runs/a/final: models/base is not the base that the adapter was trained on: its weights have another fingerprint than gogpt_base.json notes
  fix: name the base that it was trained on: --base FOLDER

gogpt check runs/a/final --base models/base""",
    ),
    fires=(
        Facts(adapter=replace(ADAPTER, base_differs="its weights have another fingerprint than gogpt_base.json notes")),
        Facts(adapter=replace(ADAPTER, base="../models/gone", base_found=None)),
    ),
    silent=(
        Facts(adapter=ADAPTER),
        Facts(adapter=replace(ADAPTER, base="Qwen/Qwen2.5-7B", base_found=None)),
    ),
)
