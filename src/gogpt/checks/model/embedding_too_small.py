"""MOD501: the tokenizer has ids for which the model has no embedding row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import MODEL
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the tokenizer's ids go up to {highest_id}, but the embedding has {embedding_rows} rows ({missing} too few)",
    zh="分词器的 id 最大为 {highest_id}，而嵌入只有 {embedding_rows} 行（少 {missing} 行）",
)
FIX = Text(
    en="use the tokenizer that belongs to this model, or add the missing rows to the model first (transformers: resize_token_embeddings)",
    zh="使用与该模型配套的分词器，或先为模型补上缺少的行（transformers 的 resize_token_embeddings）",
)


def run(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    assert model is not None
    if model.embedding_rows is None or model.embedding_rows >= model.tokenizer_size:
        return
    evidence = {
        "embedding_rows": model.embedding_rows, "tokenizer_size": model.tokenizer_size,
        "highest_id": model.tokenizer_size - 1, "missing": model.tokenizer_size - model.embedding_rows,
        "vocab_size": model.vocab_size,
    }
    yield Finding(code="MOD501", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=model.path, allowable=False)


CHECK = Check(
    code="MOD501",
    name="embedding_too_small",
    stage=Stage.MODEL,
    severity=Severity.ERROR,
    needs=("model",),
    run=run,
    page=Page(
        title=Text(en="the embedding has fewer rows than the tokenizer has ids", zh="嵌入行数少于分词器的 id 数"),
        what=Text(
            en="Whether the embedding matrix (its shape in the safetensors header) has a row for the tokenizer's highest id. "
            "More rows than ids are normal: many models pad their embedding.",
            zh="检查嵌入矩阵（取自 safetensors 文件头的形状）是否覆盖分词器的最大 id。行数多于 id 数是正常的：许多模型会填充嵌入。",
        ),
        why=Text(
            en="On a GPU an id without a row is a device-side assert far from its cause, on a CPU an index error at the first "
            "row that uses it, perhaps hours into the run. Tokens that were added and whose rows were neither trained nor "
            "saved are useless after loading (artidoro/qlora#214, huggingface/peft#334, axolotl-ai-cloud/axolotl#1570).",
            zh="没有对应行的 id 在 GPU 上会触发远离原因的 device-side assert，在 CPU 上则要到用到它的那一行才报下标错误，可能已训练数小时。"
            "新增 token 的嵌入若既未训练也未保存，加载后毫无用处（artidoro/qlora#214、huggingface/peft#334、axolotl-ai-cloud/axolotl#1570）。",
        ),
        fix=Text(
            en="If the tokenizer comes from another model, take the right one. If tokens were added on purpose, add their rows to "
            "the model (resize_token_embeddings of transformers), and with LoRA train them: method.modules_to_save: "
            "[embed_tokens, lm_head].",
            zh="若分词器来自别的模型，请换成配套的。若有意新增 token，请为模型补上对应的行（transformers 的 resize_token_embeddings），"
            "使用 LoRA 时还要训练新行：method.modules_to_save: [embed_tokens, lm_head]。",
        ),
        example="""error MOD501 models/base: the tokenizer's ids go up to 49154, but the embedding has 49152 rows (3 too few)
  fix: use the tokenizer that belongs to this model, or add the missing rows to the model first (transformers: resize_token_embeddings)

model: models/base-extended
method:
  modules_to_save: [embed_tokens, lm_head]""",
    ),
    fires=(Facts(model=replace(MODEL, tokenizer_size=49155)),),
    silent=(
        Facts(model=MODEL),
        Facts(model=replace(MODEL, embedding_rows=49280)),
        Facts(model=replace(MODEL, embedding_rows=None, tokenizer_size=60000)),
    ),
)
