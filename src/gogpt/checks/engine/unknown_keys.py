"""CFG271: keys that DeepSpeed does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ENGINE
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

NEAR = Text(
    en="DeepSpeed knows no {keys}; did you mean {near}?",
    zh="DeepSpeed 没有 {keys}；是否想写 {near}？",
)
FAR = Text(
    en="DeepSpeed knows no {keys}",
    zh="DeepSpeed 没有 {keys}",
)
FIX = Text(
    en="correct the name (gogpt check {path} --fix OUT), or take it out",
    zh="改正名称（gogpt check {path} --fix OUT），或将其去掉",
)
FIX_FAR = Text(
    en="take it out, or correct the name; at the top of the file DeepSpeed would ignore it",
    zh="去掉它，或改正名称；在文件顶层 DeepSpeed 会忽略它",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.engine
    assert file is not None
    if not file.unknown:
        return
    near = [name for name in file.unknown.values() if name]
    yield Finding(
        code="CFG271", severity=Severity.ERROR if near else Severity.WARNING, message=NEAR if near else FAR, fix=FIX if near else FIX_FAR,
        evidence={"path": file.path, "keys": ", ".join(file.unknown), "near": ", ".join(near)}, where=file.at(*file.unknown),
    )


CHECK = Check(
    code="CFG271",
    name="unknown_keys",
    stage=Stage.ENGINE,
    severity=Severity.ERROR,
    needs=("engine",),
    run=run,
    page=Page(
        title=Text(en="keys that DeepSpeed does not know", zh="DeepSpeed 不认识的键"),
        what=Text(
            en="Whether every key at the top, in optimizer, scheduler, fp16, bf16, zero_optimization, its offload parts and in the parameters of DeepSpeed's own schedulers is one that DeepSpeed 0.19.8 knows. An error where a known key is near, a warning otherwise. Keys that begin with _, // or # are comments.",
            zh="检查顶层以及 optimizer、scheduler、fp16、bf16、zero_optimization、其卸载部分和 DeepSpeed 自带调度器参数中的每个键，DeepSpeed 0.19.8 是否认识。若有相近的键则为错误，否则为警告。以 _、// 或 # 开头的键视为注释。",
        ),
        why=Text(
            en="At the top of the file a misspelt key is ignored, and its default holds in silence. Inside fp16, bf16, zero_optimization and the parameters of a scheduler DeepSpeed refuses to start.",
            zh="在文件顶层，拼错的键会被忽略，默认值悄悄生效；在 fp16、bf16、zero_optimization 和调度器参数之内，DeepSpeed 会拒绝启动。",
        ),
        fix=Text(
            en="Write the key as DeepSpeed names it.",
            zh="按 DeepSpeed 的名称书写该键。",
        ),
        example="""error CFG271 ds.json: DeepSpeed knows no gradient_cliping; did you mean gradient_clipping?
  fix: correct the name (gogpt check ds.json --fix OUT), or take it out

{"gradient_clipping": 1.0}""",
    ),
    fires=(
        Facts(engine=replace(ENGINE, unknown={"gradient_cliping": "gradient_clipping"})),
        Facts(engine=replace(ENGINE, unknown={"my_notes": ""})),
    ),
    silent=(
        Facts(engine=ENGINE),
    ),
)
