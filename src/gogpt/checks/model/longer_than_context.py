"""MOD504: examples are longer than the positions of the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA, MODEL, PLAN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the longest example has {longest} tokens and data.max_length is {max_length}, but the model has {positions} positions",
    zh="最长样本有 {longest} 个 token，data.max_length 为 {max_length}，而模型只有 {positions} 个位置",
)
FIX = Text(en="data.max_length: {positions}, or a model with a longer context", zh="设为 data.max_length: {positions}，或换用上下文更长的模型")


def run(facts: Facts) -> Iterator[Finding]:
    plan, data, model = facts.plan, facts.data, facts.model
    assert plan is not None
    assert data is not None
    assert model is not None
    positions = model.max_position_embeddings
    if positions is not None and plan.max_length > positions and data.longest > positions:
        evidence = {"longest": data.longest, "max_length": plan.max_length, "positions": positions, "model_type": model.model_type}
        # A table of learned positions ends there (an IndexError); rotary ones go on, beyond what was trained.
        ends = model.learned_positions
        yield Finding(code="MOD504", severity=Severity.ERROR if ends else Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX,
                      allowable=not ends)


LONG = replace(PLAN, max_length=8192)
SMALL = replace(MODEL, max_position_embeddings=2048)

CHECK = Check(
    code="MOD504",
    name="longer_than_context",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "data", "model"),
    run=run,
    page=Page(
        title=Text(en="examples are longer than the model's context", zh="样本长度超过模型上下文"),
        what=Text(
            en="Whether the longest example has more tokens than max_position_embeddings of the model's config.json, and "
            "data.max_length lets it through: an error where positions are a table of learned rows, which ends there; a warning "
            "where they are rotary.",
            zh="检查最长样本的 token 数是否超过模型 config.json 的 max_position_embeddings，且 data.max_length 允许其通过：位置是可学习的表时报错（表到此为止），旋转位置时警告。",
        ),
        why=Text(
            en="With learned positions (GPT-2) the first such example is an index error. With rotary positions it trains, at "
            "positions that the base model has never seen: the long examples pull the weights the wrong way, and the model "
            "is served with the shorter context anyway.",
            zh="使用可学习位置编码（GPT-2）时，遇到这样的样本会报下标错误。使用旋转位置编码时可以训练，但位置是基座模型从未见过的："
            "长样本会把权重拉偏，而部署时上下文仍然较短。",
        ),
        fix=Text(
            en="Lower data.max_length to the model's context and choose a policy for longer rows (data.overlong), or take a "
            "model with a longer context.",
            zh="把 data.max_length 降到模型的上下文长度，并用 data.overlong 决定如何处理更长的行；或换用上下文更长的模型。",
        ),
        example="""warning MOD504: the longest example has 5210 tokens and data.max_length is 8192, but the model has 2048 positions
  fix: data.max_length: 2048, or a model with a longer context

data:
  max_length: 2048
  overlong: split""",
    ),
    fires=(
        Facts(plan=LONG, data=replace(DATA, longest=5210), model=SMALL),
        Facts(plan=LONG, data=replace(DATA, longest=5210), model=replace(SMALL, model_type="gpt2", learned_positions=True)),
    ),
    silent=(
        Facts(plan=PLAN, data=DATA, model=MODEL),
        Facts(plan=LONG, data=DATA, model=SMALL),
        Facts(plan=LONG, data=replace(DATA, longest=5210), model=replace(MODEL, max_position_embeddings=None)),
    ),
)
