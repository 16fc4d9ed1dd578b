"""MOD527: the trained model does not stop on its own training prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PROOFS, TRAINED_STOP
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the trained model gives the stop a probability of {probability:.2f} after {answers} trained answers, and yet none of its own answers to the "
    "same prompts ended within {max_new_tokens} tokens",
    zh="训练后的模型在 {answers} 个训练回答之后给停止标记的概率为 {probability:.2f}，但它自己对同样提示的回答没有一个在 {max_new_tokens} 个 token 内结束",
)
FIX = Text(
    en="read a few answers (gogpt generate): loops ask for a lower learning rate or fewer epochs, answers cut short only for more tokens",
    zh="读几个回答（gogpt generate）：若是循环，降低学习率或减少轮数；若只是被截断，则需要更多 token",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.trained_stop
    assert proof is not None
    if proof.sure == proof.answers and proof.stopped == 0:
        yield Finding(code="MOD527", severity=Severity.WARNING, message=MESSAGE, evidence=to_json(proof), fix=FIX)


CHECK = Check(
    code="MOD527",
    name="trained_runs_on",
    stage=Stage.PROOF,
    severity=Severity.WARNING,
    needs=("proofs.trained_stop",),
    run=run,
    page=Page(
        title=Text(en="the trained model does not stop", zh="训练后的模型不会停"),
        what=Text(
            en="After training, with the files of final/: up to 2 training prompts are answered greedily, in at most 48 tokens and at most twice the "
            "length of the trained answers. A warning, if the model is sure of the stop after every trained answer (probability of at "
            "least 0.5) and none of its own answers ends. On the CPU not above 2 billion parameters.",
            zh="训练之后，用 final/ 中的文件：对至多 2 个训练提示贪心作答，至多 48 个 token，且不超过训练回答长度的两倍。若模型在每个训练回答之后都确信该停"
            "（概率不低于 0.5），而它自己的回答没有一个结束，则给出警告。CPU 上参数超过 20 亿时不做。",
        ),
        why=Text(
            en="Endless answers are what users see first of a stop that was not learned, of a generation config that does not know it, or of a "
            "model driven into loops (axolotl-ai-cloud/axolotl#3754; hiyouga/LLaMA-Factory#5231, #3945, #3143).",
            zh="停止标记没学会、生成配置不认识它，或模型陷入循环，用户最先看到的都是没完没了的回答"
            "（axolotl-ai-cloud/axolotl#3754；hiyouga/LLaMA-Factory#5231、#3945、#3143）。",
        ),
        fix=Text(
            en="Generate with more tokens and read. A model that repeats itself was trained too long or too fast; one that never says the stop "
            "although it is sure of it is served with another generation_config.json than the one in final/.",
            zh="用更多 token 生成并阅读。自我重复的模型训练过久或过快；确信该停却从不说停止标记的模型，使用的生成配置不是 final/ 中的 generation_config.json。",
        ),
        example="""warning MOD527: the trained model gives the stop a probability of 0.94 after 2 trained answers, and yet none of its own answers to the same prompts ended within 48 tokens
  fix: read a few answers (gogpt generate): loops ask for a lower learning rate or fewer epochs, answers cut short only for more tokens

train:
  epochs: 2""",
    ),
    fires=(Facts(proofs=replace(PROOFS, trained_stop=replace(TRAINED_STOP, stopped=0, sure=2, probability=0.94))),),
    silent=(
        Facts(proofs=PROOFS),
        Facts(proofs=replace(PROOFS, trained_stop=replace(TRAINED_STOP, stopped=1))),
        Facts(proofs=replace(PROOFS, trained_stop=replace(TRAINED_STOP, stopped=0, sure=0, probability=0.003))),
    ),
)
