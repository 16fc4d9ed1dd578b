"""CFG222: a template that is not the model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import FOREIGN
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{key} {template} writes a question as {written!r}, but {model} was trained on {seen!r}",
    zh="{key} {template} 把问题写成 {written!r}，而 {model} 训练时用的是 {seen!r}",
)
FIX = Text(
    en="take the model's own template{named}, or serve the tuned model with the template that it was tuned with",
    zh="使用模型自己的模板{named}，或者部署微调模型时也使用微调所用的模板",
)


def run(facts: Facts) -> Iterator[Finding]:
    file = facts.foreign
    assert file is not None
    if file.template_fits is not False:
        return
    yield Finding(
        code="CFG222", severity=Severity.ERROR if file.model_local else Severity.WARNING, message=MESSAGE,
        evidence={"key": file.key("template"), "template": file.template, "model": file.model, "written": file.template_written, "seen": file.template_seen,
                  "named": f" ({file.template_of_model})" if file.template_of_model else ""}, fix=FIX, where=file.at(file.key("template")),
    )


CHECK = Check(
    code="CFG222",
    name="foreign_template_unfit",
    stage=Stage.FOREIGN,
    severity=Severity.ERROR,
    needs=("foreign",),
    run=run,
    page=Page(
        title=Text(
            en="the template is not the model's",
            zh="模板与模型不符",
        ),
        what=Text(
            en="Whether the text that the named template writes around a question is part of what the model's own chat template writes (white space aside): an error where the model is local and both were rendered; a warning where only the names are known, of LLaMA-Factory's own table of models and templates.",
            zh="检查所选模板在问题前后写入的文本是否出现在模型自己的聊天模板中（忽略空白）：模型在本地、两者都渲染过时为错误；只知道名称（LLaMA-Factory 自己的模型与模板表）时为警告。",
        ),
        why=Text(
            en="A chat model that is tuned in another form answers in the form that it was not tuned in when a server uses its own template: good in the framework, bad in vLLM or ollama (hiyouga/LLaMA-Factory#2509: 26% against 57%, #8720, #5845, #5904; modelscope/ms-swift#2328).",
            zh="以另一种格式微调的聊天模型，部署时服务器用的仍是它自己的模板，于是框架内效果好，在 vLLM 或 ollama 中变差（hiyouga/LLaMA-Factory#2509：26% 对 57%，#8720、#5845、#5904；modelscope/ms-swift#2328）。",
        ),
        fix=Text(
            en="Name the template of the model. gogpt template verify MODEL tells which one its chat template is.",
            zh="写模型自己的模板名。gogpt template verify MODEL 会告诉该模型的聊天模板是哪一个。",
        ),
        example="""error CFG222 lf.yaml:4: template llama3 writes a question as 'user<|end_header_id|>\\n\\nQUESTION<|eot_id|>', but models/base was trained on '<|im_start|>user\\nQUESTION<|im_end|>'
  fix: take the model's own template (qwen), or serve the tuned model with the template that it was tuned with

template: qwen""",
    ),
    fires=(
        Facts(foreign=replace(FOREIGN, template_fits=False, template_of_model="qwen", template_written="user<|end_header_id|>\n\nQUESTION<|eot_id|>", template_seen="<|im_start|>user\nQUESTION<|im_end|>")),
        Facts(foreign=replace(FOREIGN, template_fits=False, model_local=False, model="Qwen/Qwen2.5-7B-Instruct", template_written="a QUESTION", template_seen="b QUESTION")),
    ),
    silent=(
        Facts(foreign=FOREIGN),
        Facts(foreign=replace(FOREIGN, template_fits=None)),
    ),
)
