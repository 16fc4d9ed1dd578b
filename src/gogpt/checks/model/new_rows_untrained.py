"""MOD507: tokens were added to the tokenizer, the data use them, and their rows do not train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL, PLAN
from gogpt.facts import Facts, Tally
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="{added_tokens:,} tokens were added to this model, the data use them {added_seen:,} times, and method {method} does not train their rows",
    zh="该模型新增了 {added_tokens:,} 个 token，数据中出现 {added_seen:,} 次，而 {method} 方法不训练它们的行",
)
FIX = Text(
    en="method.new_tokens: rows (the new rows alone), or all (the whole embedding and output head)",
    zh="设 method.new_tokens: rows（只训练新行），或 all（整个嵌入与输出头）",
)
MEAN = Text(
    en="{tokens:,} tokens were added to this model and never trained: their rows are the mean of all rows ({first}); the data use them {seen:,} times, and "
    "method {method} does not train their rows",
    zh="该模型新增了 {tokens:,} 个 token 且从未训练：它们的行等于所有行的平均值（{first}）；数据中出现 {seen:,} 次，而 {method} 方法不训练它们的行",
)
FIX_MEAN = Text(
    en="method.new_tokens: all (the whole embedding and output head); or extend the base with gogpt tokenizer extend, and train the new rows alone",
    zh="设 method.new_tokens: all（整个嵌入与输出头）；或用 gogpt tokenizer extend 扩展基座，只训练新行",
)
FIX_FREEZE = Text(
    en="method.new_tokens: all, or method: {{kind: lora, new_tokens: rows}}",
    zh="设 method.new_tokens: all，或 method: {{kind: lora, new_tokens: rows}}",
)


def run(facts: Facts) -> Iterator[Finding]:
    plan, model = facts.plan, facts.model
    assert plan is not None
    assert model is not None
    if model.mean_rows.count:
        found = {"tokens": model.mean_rows.count, "first": ", ".join(model.mean_rows.first), "seen": model.mean_seen, "method": plan.method}
        yield Finding(code="MOD507", severity=Severity.ERROR, message=MEAN, evidence=found, where=model.path, fix=FIX_MEAN)
    if not model.added_tokens or model.added_trained or not model.added_seen:
        return
    evidence = {"added_tokens": model.added_tokens, "added_seen": model.added_seen, "method": plan.method}
    yield Finding(code="MOD507", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, where=model.path,
                  fix=FIX_FREEZE if plan.method == "freeze" else FIX)


RESIZED = replace(MODEL, mean_rows=Tally(count=2, first=("<lookup>", "</lookup>")), mean_seen=96)
EXTENDED = replace(MODEL, added_tokens=4121, added_seen=51_300)

CHECK = Check(
    code="MOD507",
    name="new_rows_untrained",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("plan", "model"),
    run=run,
    page=Page(
        title=Text(en="the rows of added tokens are not trained", zh="新增 token 的行没有被训练"),
        what=Text(
            en="Whether a model that gogpt tokenizer extend made (gogpt_extension.json lies beside it) is trained with the rows that were "
            "added, when the training examples hold tokens of theirs. A run that trained them is noted, and later ones may leave them. Without that "
            "note, the weights tell: a token of the data whose row of the embedding is the mean of all rows (within 2% of the usual distance from it) was "
            "added by resize_token_embeddings and has never been trained. Rows that were drawn at random (mean_resizing=False) look like any others.",
            zh="检查由 gogpt tokenizer extend 得到的模型（目录中有 gogpt_extension.json），在训练样本含有新 token 时，是否训练新增的行。"
            "训练过新行的模型会有记录，之后的训练可以不再训练它们。没有该记录时由权重判断：数据中某个 token 的嵌入行等于所有行的平均值（距离不到通常距离的 2%），"
            "说明它由 resize_token_embeddings 添加且从未训练。随机初始化的行（mean_resizing=False）与其他行无异，无法看出。",
        ),
        why=Text(
            en="A new row begins as the mean of the rows that its text had before, in the input and in the output. Several tokens share "
            "one mean or nearly so, and the output head cannot tell them apart. LoRA on the linear layers leaves both matrices as they are: "
            "the loss falls, and the model still cannot write the new tokens (ymcui/Chinese-LLaMA-Alpaca trains embed_tokens and lm_head "
            "with the adapter for this reason). artidoro/qlora#214 and huggingface/peft#334 are such runs.",
            zh="新行的初值是其文本原有各行的平均值，输入与输出都是如此。许多 token 的平均值相同或相近，输出头无法区分它们。只在线性层上做 LoRA "
            "不会改变这两个矩阵：损失在下降，模型却仍写不出新 token（ymcui/Chinese-LLaMA-Alpaca 因此把 embed_tokens 与 lm_head 和适配器一起训练）。artidoro/qlora#214 与 huggingface/peft#334 即属此类。",
        ),
        fix=Text(
            en="Set method.new_tokens: rows. Only the added rows train then, of the embedding and of the output head, and they are saved with "
            "the adapter; all trains both matrices whole, which needs their gradients and optimizer state. Method full trains every row.",
            zh="设 method.new_tokens: rows，只训练嵌入与输出头中新增的行，并随适配器保存；all 训练两个完整的矩阵，需要相应的梯度和优化器状态。"
            "full 方法会训练所有行。",
        ),
        example="""error MOD507 models/base: 4,121 tokens were added to this model, the data use them 51,300 times, and method lora does not train their rows
  fix: method.new_tokens: rows (the new rows alone), or all (the whole embedding and output head)

method:
  kind: lora
  new_tokens: rows""",
    ),
    fires=(Facts(plan=PLAN, model=EXTENDED), Facts(plan=PLAN, model=RESIZED), Facts(plan=replace(PLAN, method="freeze"), model=EXTENDED)),
    silent=(
        Facts(plan=PLAN, model=MODEL),
        Facts(plan=PLAN, model=replace(EXTENDED, added_trained=True)),
        Facts(plan=PLAN, model=replace(EXTENDED, added_seen=0)),
    ),
)
