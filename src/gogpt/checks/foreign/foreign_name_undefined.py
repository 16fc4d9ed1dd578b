"""CFG229: what a key names is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{key} names what is not there: {missing}",
    zh="{key} 所指的东西不存在：{missing}",
)
FIX = Text(
    en="correct the name",
    zh="改正名称",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.undefined:
        first = next(iter(file.undefined.values()))
        yield Finding(code="CFG229", severity=Severity.ERROR, message=MESSAGE, evidence={"key": first, "missing": "; ".join(file.undefined)}, fix=FIX, where=file.at(first))


CHECK = Check(
    code="CFG229",
    name="foreign_name_undefined",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="a name that is not defined",
            zh="引用了未定义的名称",
        ),
        what=Text(
            en="Whether each data set of LLaMA-Factory is in dataset_info.json, each column that an entry names is in the first row of its file, and the template is one of the release that was read (0.9.5).",
            zh="检查 LLaMA-Factory 的每个数据集是否在 dataset_info.json 中、条目所写的列是否存在于文件首行、模板是否属于所对照的版本（0.9.5）。",
        ),
        why=Text(
            en="LLaMA-Factory finds out after the model is loaded, with a KeyError that names neither file nor entry (measured with 0.9.5: KeyError: 'ouput'); a column that is merely beside it trains without the answers.",
            zh="LLaMA-Factory 要到加载模型之后才发现，而且 KeyError 不指明文件和条目（0.9.5 实测：KeyError: 'ouput'）；若写成旁边的另一列，则会在没有答案的情况下训练。",
        ),
        fix=Text(
            en="Correct the entry of dataset_info.json, or the name in the configuration.",
            zh="改正 dataset_info.json 的条目，或配置中的名称。",
        ),
        example="""error CFG229 lf.yaml:5: dataset names what is not there: the data set 'identiti' (dataset_info.json has no such entry; did you mean 'identity'?)
  fix: correct the name

dataset: identity""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, undefined={"the data set 'identiti' (dataset_info.json has no such entry; did you mean 'identity'?)": "dataset"})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
    ),
)
