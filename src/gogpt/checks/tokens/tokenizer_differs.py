"""TOK411: two files of the model folder hold the same tokenizer, and encode differently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import TOKENIZER
from gogpt.facts import Facts, TokenizerFacts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MANY_EQUAL = 0.01

MESSAGE = Text(
    en="{file} and {other_file} give other ids for {different} of {compared} texts, first at {text_shown}: {ids} ({tokens_shown}) "
    "against {other_ids} ({other_shown})",
    zh="{file} 与 {other_file} 对 {compared} 段文本中的 {different} 段给出不同的 id，首个在 {text_shown}：{ids}（{tokens_shown}）"
    "对 {other_ids}（{other_shown}）",
)
CAUSES = {
    "merge_order": Text(en="the merges are not ordered by score", zh="合并规则没有按分数排序"),
    "equal_scores": Text(en="{equal_scores} pieces share one score, which no list of merges can order",
                         zh="{equal_scores} 个词片分数相同，任何合并列表都无法表达其顺序"),
    "leading_space": Text(en="the step that puts a space before a text was replaced (Metaspace)", zh="在文本前加空格的步骤被替换（Metaspace）"),
    "normalizer": Text(en="the normalizer is not the model's", zh="规范化步骤与模型不同"),
    "pre_tokenizer": Text(en="the text is split by another pre-tokenizer", zh="预切分步骤不同"),
    "vocabulary": Text(en="the vocabulary is another", zh="词表不同"),
}
FIX = Text(
    en="keep the file that the model was pretrained with and take the other out of the folder; GoGPT encodes with {file}, other programs "
    "may take {other_file}",
    zh="保留模型预训练时所用的文件，从目录中移走另一个；GoGPT 使用 {file}，其他程序可能使用 {other_file}",
)
TIED = Text(
    en="{equal_scores} of {size} pieces of {file} share one score: a tokenizer.json made from it (as transformers does) encodes otherwise",
    zh="{file} 的 {size} 个词片中有 {equal_scores} 个分数相同：由它转换的 tokenizer.json（transformers 的做法）编码结果不同",
)
FIX_TIED = Text(
    en="serve with sentencepiece: gogpt chat, or the class that GoGPT saves (SentencePieceBackend; it prints a newline as <0x0A>)",
    zh="用 sentencepiece 推理：gogpt chat，或使用 GoGPT 保存的类（SentencePieceBackend，它会把换行显示为 <0x0A>）",
)


def run(facts: Facts) -> Iterator[Finding]:
    t = facts.tokenizer
    assert t is not None
    evidence = {
        "file": t.file, "library": t.library, "size": t.size, "other_file": t.other_file, "compared": t.compared, "different": t.different,
        "text": t.text, "ids": list(t.ids), "tokens": list(t.tokens), "other_ids": list(t.other_ids), "other_tokens": list(t.other_tokens),
        "causes": list(t.causes), "equal_scores": t.equal_scores,
        "text_shown": repr(t.text), "tokens_shown": " ".join(t.tokens), "other_shown": " ".join(t.other_tokens),
    }
    if t.different:
        yield Finding(code="TOK411", severity=Severity.ERROR, message=_with_causes(t), evidence=evidence, fix=FIX)
    elif t.other_file is None and t.equal_scores >= MANY_EQUAL * t.size:
        yield Finding(code="TOK411", severity=Severity.WARNING, message=TIED, evidence=evidence, fix=FIX_TIED)


def _with_causes(t: TokenizerFacts) -> Text:
    known = [CAUSES[c] for c in t.causes if c in CAUSES]
    if not known:
        return MESSAGE
    return Text(en=f"{MESSAGE.en}: {'; '.join(c.en for c in known)}", zh=f"{MESSAGE.zh}：{'；'.join(c.zh for c in known)}")


DIFFERS = replace(
    TOKENIZER, file="tokenizer.model", library="sentencepiece", size=32000, other_file="tokenizer.json", compared=212, different=31,
    text="x):\n    if x > 0", ids=(1678, 565, 921), tokens=("▁▁▁", "▁if", "▁x"), other_ids=(268, 361, 921),
    other_tokens=("▁▁▁▁", "if", "▁x"), causes=("merge_order",), byte_pieces=True,
)
EQUAL = replace(TOKENIZER, file="tokenizer.model", library="sentencepiece", size=68419, equal_scores=36419, byte_pieces=True)

CHECK = Check(
    code="TOK411",
    name="tokenizer_differs",
    stage=Stage.TOKENS,
    severity=Severity.ERROR,
    needs=("tokenizer",),
    run=run,
    page=Page(
        title=Text(en="two files of the tokenizer encode differently", zh="分词器的两个文件编码结果不同"),
        what=Text(
            en="Where a model folder holds its tokenizer twice (tokenizer.json beside a SentencePiece tokenizer.model or a tekken.json), both "
            "encode fixed texts and a sample of the training data, and must give the same ids. A SentencePiece model whose pieces share "
            "scores is told as a warning, because no tokenizer.json can hold it.",
            zh="若模型目录中有同一分词器的两个文件（tokenizer.json 与 SentencePiece 的 tokenizer.model 或 tekken.json），则对固定文本和训练数据的"
            "抽样分别编码，两者的 id 必须相同。若 SentencePiece 模型的词片分数相同，则给出警告，因为任何 tokenizer.json 都无法表达它。",
        ),
        why=Text(
            en="A tokenizer.json is a conversion, and conversions go wrong in silence: merges ordered by id instead of by score (transformers 5.23 "
            "from a tokenizer.model alone: code is cut otherwise), a Metaspace in place of the step that puts a space before a text, a pre-tokenizer "
            "left out. In Chinese-extended vocabularies thousands of pieces have the same score: half of the Chinese lines then get other ids "
            "(measured on GoGPT2). A model trained on one form and served with the other sees tokens that it was not trained on.",
            zh="tokenizer.json 是转换得来的，而转换可能悄悄出错：合并规则按 id 而不是按分数排序（transformers 5.23 只有 tokenizer.model 时，代码的切分就不同）；"
            "在文本前加空格的步骤被 Metaspace 取代；漏掉预切分步骤。中文扩充词表里有数千个分数相同的词片，一半的中文行会得到不同的 id（在 GoGPT2 上测得）。"
            "用一种形式训练、用另一种形式推理，模型看到的就是没有训练过的 token。",
        ),
        fix=Text(
            en="Find out which file the model was pretrained with (its card, or the loss of the base model on your text with either: it is lower with the "
            "right one). Take the other file out of the model folder. For the warning: serve the model with sentencepiece, through gogpt chat or the "
            "class that GoGPT writes into tokenizer_config.json. That class of transformers gives the right ids; where it prints byte pieces such as "
            "<0x0A> for a newline, decode with sentencepiece.",
            zh="查明模型预训练时用的是哪个文件（看模型卡，或比较底座模型在你的文本上的损失：用对的那个损失更低），把另一个移出模型目录。若是警告：用 sentencepiece 推理，"
            "即 gogpt chat 或 GoGPT 写入 tokenizer_config.json 的类。该类给出的 id 是正确的；若它把换行等字节词片显示为 <0x0A>，请用 sentencepiece 解码。",
        ),
        example="""error TOK411: tokenizer.model and tokenizer.json give other ids for 31 of 212 texts, first at 'x):\\n    if x > 0': [1678, 565, 921] (▁▁▁ ▁if ▁x) against [268, 361, 921] (▁▁▁▁ if ▁x): the merges are not ordered by score
  fix: keep the file that the model was pretrained with and take the other out of the folder; GoGPT encodes with tokenizer.model, other programs may take tokenizer.json

mv models/base/tokenizer.json models/base/tokenizer.json.other""",
    ),
    fires=(Facts(tokenizer=DIFFERS), Facts(tokenizer=replace(DIFFERS, causes=())), Facts(tokenizer=EQUAL)),
    silent=(
        Facts(tokenizer=TOKENIZER),
        Facts(tokenizer=replace(TOKENIZER, other_file="tokenizer.model", compared=240)),
        Facts(tokenizer=replace(EQUAL, equal_scores=16)),
    ),
)
