"""CFG267: fp16 and bf16 are both on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="fp16 and bf16 are both enabled ({fp16}, {bf16}): DeepSpeed refuses to start",
    zh="fp16 与 bf16 同时启用（{fp16}、{bf16}）：DeepSpeed 会拒绝启动",
)
FIX = Text(
    en="enable one: bf16 where the device computes it, since it cannot overflow; gogpt check {path} --fix OUT turns fp16 off",
    zh="只启用一个：设备支持时用 bf16，它不会溢出；gogpt check {path} --fix OUT 会关闭 fp16",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not (file.fp16 and file.bf16):
        return
    yield Finding(code="CFG267", severity=Severity.ERROR, message=MESSAGE, fix=FIX, where=file.at("fp16.enabled", "fp16"),
                  evidence={"path": file.path, "fp16": file.at("fp16.enabled", "fp16"), "bf16": file.at("bf16.enabled", "bf16")})


CHECK = Check(
    code="CFG267",
    name="two_precisions",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="fp16 and bf16 are both enabled", zh="fp16 与 bf16 同时启用"),
        what=Text(
            en="Whether at most one of fp16.enabled and bf16.enabled is true.",
            zh="检查 fp16.enabled 与 bf16.enabled 是否至多一个为 true。",
        ),
        why=Text(
            en="DeepSpeed refuses both at once.",
            zh="DeepSpeed 不允许两者同时启用。",
        ),
        fix=Text(
            en="Keep one. fp16 has a largest number of 65,504, which large models' gradients exceed; bf16 has float32's range.",
            zh="只保留一个。fp16 的最大值是 65504，大模型的梯度会超过它；bf16 的范围与 float32 相同。",
        ),
        example="""error CFG267 ds.json:5: fp16 and bf16 are both enabled (ds.json:5, ds.json:4): DeepSpeed refuses to start
  fix: enable one: bf16 where the device computes it, since it cannot overflow; gogpt check ds.json --fix OUT turns fp16 off

{"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, fp16=True)),
    ),
    silent=(
        Facts(engine=ENGINE),
        Facts(engine=replace(ENGINE, bf16=False, fp16=True)),
    ),
)
