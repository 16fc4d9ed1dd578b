"""CFG220: a key that the other tool does not know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

DROPPED = Text(
    en="{key} is no key of {release}: it goes on without it{near}",
    zh="{release} 没有 {key} 这个键：会不作提示地忽略它{near_zh}",
)
REFUSED = Text(
    en="{key} is no key of {release}{near}",
    zh="{release} 没有 {key} 这个键{near_zh}",
)
FIX = Text(
    en="correct the key, or take it out",
    zh="改正该键，或删去它",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if not file.unknown:
        return
    near = {k: v for k, v in file.unknown.items() if v}
    first = next(iter(near or file.unknown))
    others = len(file.unknown) - 1
    hint = (f"; did you mean {near[first]}?" if near else "") + (f" ({others} more: {', '.join(k for k in file.unknown if k != first)})" if others else "")
    hint_zh = (f"；是否指 {near[first]}？" if near else "") + (f"（另有 {others} 个：{', '.join(k for k in file.unknown if k != first)}）" if others else "")
    certain = bool(near) and file.tool in ("llamafactory", "trl")  # whose keys are those of the installed package
    yield Finding(
        code="CFG220", severity=Severity.ERROR if certain else Severity.WARNING, message=DROPPED if file.unknown_dropped else REFUSED,
        evidence={"key": first, "release": file.release, "near": hint, "near_zh": hint_zh, "unknown": dict(file.unknown)}, fix=FIX, where=file.at(first),
    )


CHECK = Check(
    code="CFG220",
    name="foreign_key_unknown",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="the other tool does not know a key",
            zh="另一工具不认识某个键",
        ),
        what=Text(
            en="Whether every key of a configuration of LLaMA-Factory or TRL is one of the release that was read (0.9.5, 1.16.0), and whether a key of Axolotl or ms-swift is nearly one of the documented ones. An error where a near key exists in LLaMA-Factory or TRL, a warning otherwise.",
            zh="检查 LLaMA-Factory 或 TRL 配置的每个键是否属于所对照的版本（0.9.5、1.16.0），以及 Axolotl 或 ms-swift 的键是否与某个文档中的键相近。LLaMA-Factory 和 TRL 中有相近键时为错误，否则为警告。",
        ),
        why=Text(
            en="TRL's own script and Axolotl go on without a key that they do not know (TRL 1.16 parses a file with fail_with_unknown_args=False): learning_rte: 1e-5 trains at the default. LLaMA-Factory 0.9.5 refuses it, after the machine was booked.",
            zh="TRL 自带脚本和 Axolotl 会忽略不认识的键（TRL 1.16 以 fail_with_unknown_args=False 解析文件）：写 learning_rte: 1e-5 会按默认值训练。LLaMA-Factory 0.9.5 会拒绝，但那时机器已经占上。",
        ),
        fix=Text(
            en="Write the key that the message suggests. A key of a newer release, or of a plugin, can stay: allow the code with --allow CFG220.",
            zh="改成报错建议的键。属于更新版本或插件的键可以保留：用 --allow CFG220 放行。",
        ),
        example="""error CFG220 lf.yaml:9: learning_rte is no key of LLaMA-Factory 0.9.5; did you mean learning_rate?
  fix: correct the key, or take it out

learning_rate: 1.0e-4""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, unknown={"learning_rte": "learning_rate"}, places={"learning_rte": "lf.yaml:9"})),
        Facts(foreign=replace(FOREIGN, tool="axolotl", release="Axolotl", unknown={"sample_paking": "sample_packing"}, unknown_dropped=True)),
        Facts(foreign=replace(FOREIGN, unknown={"my_own": "", "other": ""})),
    ),
    silent=(
        Facts(foreign=FOREIGN),
    ),
)
