"""EXP711: generation does not stop where answers end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import SERVED
from gogpt.facts import Facts
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

MESSAGE = Text(
    en="the chat template ends answers with {stop_text} (ids {stop_ids}), which is not among the ids that end generation: {generation_stops}",
    zh="聊天模板以 {stop_text}（id {stop_ids}）结束答案，但它不在结束生成的 id 中：{generation_stops}",
)
FIX = Text(
    en="\"eos_token_id\": {wanted} in generation_config.json",
    zh="在 generation_config.json 中设 \"eos_token_id\": {wanted}",
)


def run(facts: Facts) -> Iterator[Finding]:
    served = facts.served
    assert served is not None
    if served.stop_text is not None and not (len(served.stop_ids) == 1 and served.stop_ids[0] in served.generation_stops):
        evidence = {
            "stop_text": served.stop_text, "stop_ids": list(served.stop_ids), "generation_stops": list(served.generation_stops),
            "wanted": [*served.stop_ids[:1], *served.generation_stops],
        }
        yield Finding(code="EXP711", severity=Severity.ERROR, message=MESSAGE, evidence=evidence, fix=FIX, where=served.path)


CHECK = Check(
    code="EXP711",
    name="stop_not_served",
    stage=Stage.EXPORT,
    severity=Severity.ERROR,
    needs=("served",),
    run=run,
    page=Page(
        title=Text(en="generation does not stop where answers end", zh="生成不会在答案结束处停止"),
        what=Text(
            en="Whether the token that the chat template writes at the end of an answer is among the ids that end generation (eos_token_id of generation_config.json, else of config.json).",
            zh="检查聊天模板在答案末尾写入的 token 是否属于结束生成的 id（generation_config.json 的 eos_token_id，否则 config.json 的）。",
        ),
        why=Text(
            en="A model that was trained to end its turn with one token and is served with another runs on to the length limit: Llama 3 with <|end_of_text|> for <|eot_id|>, Gemma with <eos> for <end_of_turn> (axolotl-ai-cloud/axolotl#3754).",
            zh="训练时用一个 token 结束轮次、部署时却等待另一个，模型会一直生成到长度上限：Llama 3 用 <|end_of_text|> 代替 <|eot_id|>，Gemma 用 <eos> 代替 <end_of_turn>（axolotl-ai-cloud/axolotl#3754）。",
        ),
        fix=Text(
            en="Put the id into eos_token_id of generation_config.json (a list is allowed). Models that GoGPT saves have it.",
            zh="把该 id 写入 generation_config.json 的 eos_token_id（可为列表）。GoGPT 保存的模型已包含。",
        ),
        example="""error EXP711 models/mine: the chat template ends answers with <|eot_id|> (ids [128009]), which is not among the ids that end generation: [128001]
  fix: "eos_token_id": [128009, 128001] in generation_config.json

{"eos_token_id": [128009, 128001]}""",
    ),
    fires=(Facts(served=replace(SERVED, path="models/mine", stop_text="<|eot_id|>", stop_ids=(128009,), generation_stops=(128001,))),),
    silent=(Facts(served=SERVED), Facts(served=replace(SERVED, generation_stops=(0, 2))),),
)
