"""TOK401: most trained answers do not end in the stop token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import DATA
from gogpt.facts import DataFacts, Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{unstopped} of {answers} trained answers do not end in a stop token of template {template} ({stops}): "
    "the model would not learn to stop",
    zh="{answers} 个训练答案中有 {unstopped} 个没有以模板 {template} 的停止符（{stops}）结尾：模型学不会停止",
)
FIX = Text(
    en="use a template that writes its stop marker after every answer (data.template: chatml, alpaca, llama3), or add it to the .jinja file",
    zh="使用在每个答案后都写停止符的模板（data.template: chatml、alpaca、llama3），或在 .jinja 文件中补上",
)


def run(facts: Facts) -> Iterator[Finding]:
    data = facts.data
    assert data is not None
    unstopped = data.answers - data.answers_stopped
    if not data.stop_is_token or data.answers_stopped >= 0.5 * data.answers:  # no marker at all is TOK407's
        return
    if unstopped <= _explained_by_cuts(data):
        return
    evidence = {
        "answers": data.answers, "answers_stopped": data.answers_stopped, "unstopped": unstopped,
        "stop_texts": list(data.stop_texts), "stop_ids": list(data.stop_ids), "stops": " ".join(data.stop_texts),
        "template": data.template, "cut_targets": data.cut_targets.count,
    }
    yield Finding(code="TOK401", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX)


def _explained_by_cuts(data: DataFacts) -> float:
    """Answers that truncation can have left without their end: those of the cut examples, at the average
    number of answers of an example."""
    with_answers = data.examples + data.eval_examples - data.text_examples
    return data.cut_targets.count * max(1.0, data.answers / max(1, with_answers))


CHECK = Check(
    code="TOK401",
    name="stop_never_trained",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("data",),
    run=run,
    page=Page(
        title=Text(en="the stop token is never trained", zh="停止符从未被训练"),
        what=Text(
            en="Whether the last trained token of each answer is a stop token of the template. It fires when fewer than half "
            "of the answers end in one and truncation does not explain it (that is TOK405).",
            zh="检查每个答案最后一个被训练的 token 是否为模板的停止符。若不到一半的答案如此，且不能由截断解释（那是 TOK405），则报错。",
        ),
        why=Text(
            en="A model that never sees its stop token as a target does not end its turn: it runs on, repeats itself, or "
            "answers for the user. Gemma tunes never ended their turn in axolotl-ai-cloud/axolotl#3754; in huggingface/trl "
            "PR#7230 a mere warning cost a run of 2 h 20 min and its evaluation (79.7% instead of 100%).",
            zh="停止符从未作为训练目标，模型就不会结束自己的回合：它会一直写下去、重复，或替用户作答。"
            "axolotl-ai-cloud/axolotl#3754 中微调后的 Gemma 从不结束回合；huggingface/trl PR#7230 中只给了警告，"
            "结果白费了 2 小时 20 分钟的训练和评估（79.7% 而非 100%）。",
        ),
        fix=Text(
            en="Use a template that writes its stop marker after every answer. In a .jinja file of your own, write the marker "
            "in the assistant branch of every turn, not only after the last. gogpt show FILE:ROW paints the trained tokens.",
            zh="使用在每个答案后都写停止符的模板。若用自己的 .jinja 文件，请在每一轮的 assistant 分支都写停止符，而不只是最后一轮。"
            "gogpt show FILE:ROW 会标出被训练的 token。",
        ),
        example="""error TOK401: 2600 of 2600 trained answers do not end in a stop token of template mine.jinja (<|im_end|>): the model would not learn to stop
  fix: use a template that writes its stop marker after every answer (data.template: chatml, alpaca, llama3), or add it to the .jinja file

data:
  template: chatml""",
    ),
    fires=(
        Facts(data=replace(DATA, answers_stopped=0, template="mine.jinja")),
        Facts(data=replace(DATA, answers_stopped=1200)),
        Facts(data=replace(DATA, answers_stopped=0, cut_targets=Tally(count=100, first=("data/a.jsonl:4",)))),
    ),
    silent=(
        Facts(data=DATA),
        Facts(data=replace(DATA, answers_stopped=1300)),
        Facts(data=replace(DATA, answers=0, answers_stopped=0, text_examples=2000)),
        Facts(data=replace(DATA, answers_stopped=0, cut_targets=Tally(count=2000, first=("data/a.jsonl:4",)))),
        Facts(data=replace(DATA, answers_stopped=0, stop_is_token=False, stop_ids=())),
    ),
)
