"""EXP714: answers are asked for in another rendering than was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import ASKED
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the chat template here is not the trained one: the prompts of {different} of {samples} training samples are other token ids than in training ({difference})",
    zh="这里的聊天模板与训练时不同：{samples} 个训练样本中有 {different} 个的提示与训练时的 token id 不一致（{difference}）",
)
FIX = Text(
    en="take chat_template.jinja and the tokenizer's files as the run saved them, and leave --template out",
    zh="使用该训练保存的 chat_template.jinja 与分词器文件，并去掉 --template",
)


def run(facts: Facts) -> Iterator[Finding]:
    asked = facts.asked
    assert asked is not None
    if asked.equal < asked.samples:
        evidence = {"template": asked.template, "samples": asked.samples, "different": asked.samples - asked.equal, "difference": asked.difference}
        yield Finding(code="EXP714", severity=Severity.WARNING, message=MESSAGE, evidence=evidence, fix=FIX, where=asked.path)


CHECK = Check(
    code="EXP714",
    name="asked_unlike_trained",
    stage=Stage.EXPORT,
    severity=Severity.WARNING,
    needs=("asked",),
    run=run,
    page=Page(
        title=Text(en="answers are asked for in another template than was trained", zh="提问所用的模板与训练时不同"),
        what=Text(
            en="Whether the prompts of the run's samples (samples.jsonl), rendered with the template and encoded with the tokenizer that answer now, are the ids "
            "that stand before the trained answers. gogpt generate and gogpt chat look at it for a run or what lies in its folder, and so does gogpt check of the run, its final/ or a checkpoint.",
            zh="检查用当前作答的模板渲染、分词器编码后，该训练样本（samples.jsonl）的提示是否就是训练时答案之前的 id。gogpt generate 与 gogpt chat 对训练目录及其中的内容检查，"
            "gogpt check 对训练目录、其 final/ 或检查点也检查。",
        ),
        why=Text(
            en="A model answers in the form in which it was asked while training. Asked in another it answers worse, or in the manner of its base, and nothing "
            "fails: hiyouga/LLaMA-Factory#2509 (26% instead of 57% in another server), modelscope/ms-swift#2328, ollama/ollama#8363.",
            zh="模型按训练时的提问形式作答。换一种形式，它会答得更差，或像基座那样作答，而不会报错：hiyouga/LLaMA-Factory#2509（换一个服务后 57% 变为 26%）、"
            "modelscope/ms-swift#2328、ollama/ollama#8363。",
        ),
        fix=Text(
            en="Take the template and tokenizer that the run saved, or name the template of the recipe with --template. A template that was changed on purpose needs another training.",
            zh="使用该训练保存的模板与分词器，或用 --template 指定配方中的模板。若有意更换模板，则需要重新训练。",
        ),
        example="""warning EXP714 runs/a/final: the chat template here is not the trained one: the prompts of 10 of 10 training samples are other token ids than in training (token 0: asked '### user:\\nWhich way', trained '<|im_start|>user\\nWhich way')
  fix: take chat_template.jinja and the tokenizer's files as the run saved them, and leave --template out

gogpt generate runs/a "Which way is north?" """.rstrip(),
    ),
    fires=(
        Facts(asked=replace(ASKED, equal=0, difference=r"token 0: asked '### user:\nWhich way', trained '<|im_start|>user\nWhich way'")),
        Facts(asked=replace(ASKED, equal=9, difference="token 3: asked 'a', trained 'b'")),
    ),
    silent=(Facts(asked=ASKED), Facts(asked=replace(ASKED, samples=1, equal=1))),
)
