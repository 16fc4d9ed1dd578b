"""MOD526: generation will not end where the trained answers end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gogpt.checks.cases import PROOFS, STOP
from gogpt.facts import Facts, to_json
from gogpt.findings import Check, Finding, Page, Severity, Stage, Text

PROMPT = Text(
    en="of {answers} prompts {prompts_equal} have the ids that training has before the answer; {difference}",
    zh="{answers} 个提示中只有 {prompts_equal} 个的 id 与训练时回答之前的相同；{difference}",
)
NOT_TRAINED = Text(
    en="of {answers} answers {stops_trained} end with a token that ends generation ({generation_stops}); another ends with {last_token!r}",
    zh="{answers} 个回答中只有 {stops_trained} 个以能结束生成的 token（{generation_stops}）结尾；另有以 {last_token!r} 结尾的",
)
NOT_STOPPED = Text(
    en="generate(), made to say {answers} trained answers, ended with {stopped} of them although each ends with one of {generation_stops}",
    zh="让 generate() 照说 {answers} 个训练回答，只有 {stopped} 个到结尾就停，尽管每个都以 {generation_stops} 之一结尾",
)
FIX_PROMPT = Text(
    en="use one tokenizer and one template for training and for inference; see both with gogpt template render",
    zh="训练与推理使用同一个分词器和模板；用 gogpt template render 查看",
)
FIX_STOP = Text(
    en="use a template whose stop marker is one token of this tokenizer and is trained (data.template), or add it: gogpt tokenizer extend",
    zh="使用停止标记是该分词器的一个 token 且参与训练的模板（data.template），或添加该标记：gogpt tokenizer extend",
)
FIX_CONFIG = Text(
    en="look at the base's generation_config.json (min_length, min_new_tokens, suppress_tokens, eos_token_id)",
    zh="检查基座的 generation_config.json（min_length、min_new_tokens、suppress_tokens、eos_token_id）",
)


def run(facts: Facts) -> Iterator[Finding]:
    assert facts.proofs is not None
    proof = facts.proofs.generation
    assert proof is not None
    if proof.stops_trained < proof.answers:
        message, fix = NOT_TRAINED, FIX_STOP
    elif proof.stopped < proof.answers:
        message, fix = NOT_STOPPED, FIX_CONFIG
    elif proof.prompts_equal < proof.answers:
        message, fix = PROMPT, FIX_PROMPT
    else:
        return
    yield Finding(code="MOD526", severity=Severity.ERROR, message=message, evidence=to_json(proof), fix=fix)


CHECK = Check(
    code="MOD526",
    name="generation_runs_on",
    stage=Stage.PROOF,
    severity=Severity.ERROR,
    needs=("proofs.generation",),
    run=run,
    page=Page(
        title=Text(en="generation will not end where answers end", zh="生成不会停在回答结束处"),
        what=Text(
            en="Before the first step, for a short and a middling answer of the run's own: the prompt that gogpt generate would send has the "
            "ids that training has before the answer; the answer's last trained token is among the eos_token_id of the generation_config.json "
            "that will be saved; and generate() with that file, made to say the end of the answer, ends exactly with it.",
            zh="在第一步之前，对本次训练自己的一短一中两个回答：gogpt generate 将发送的提示，其 id 与训练时回答之前的相同；回答的最后一个参与训练的 token "
            "在将要保存的 generation_config.json 的 eos_token_id 之中；让 generate() 用该文件照说回答的结尾，恰好在那里停下。",
        ),
        why=Text(
            en="A stop that is masked, missing in the generation config or spelled with several tokens gives a model that talks on for ever "
            "(axolotl-ai-cloud/axolotl#3754; huggingface/trl#1623, #7230; unslothai/unsloth#416). A prompt that is encoded otherwise at "
            "inference gives worse answers without an error (hiyouga/LLaMA-Factory#2509; lm-sys/FastChat#2389).",
            zh="停止标记被屏蔽、不在生成配置中，或由几个 token 拼成，模型就会说个不停"
            "（axolotl-ai-cloud/axolotl#3754；huggingface/trl#1623、#7230；unslothai/unsloth#416）。推理时提示的编码不同，回答会变差而不报错"
            "（hiyouga/LLaMA-Factory#2509；lm-sys/FastChat#2389）。",
        ),
        fix=Text(
            en="See the painted tokens with gogpt show FILE:1: the stop must be trained. Whether a base stops by itself before training is not "
            "asked: it has not learned the template yet; MOD527 asks that afterwards.",
            zh="用 gogpt show FILE:1 查看着色的 token：停止标记必须参与训练。训练前基座会不会自己停下不在此列：它还没学过该模板；训练后由 MOD527 检查。",
        ),
        example="""error MOD526: of 2 answers 0 end with a token that ends generation ([2]); another ends with '.'
  fix: use a template whose stop marker is one token of this tokenizer and is trained (data.template), or add it: gogpt tokenizer extend

data:
  template: chatml""",
    ),
    fires=(
        Facts(proofs=replace(PROOFS, generation=replace(STOP, stops_trained=0, stopped=0, last_token="."))),
        Facts(proofs=replace(PROOFS, generation=replace(STOP, stopped=0))),
        Facts(proofs=replace(PROOFS, generation=replace(STOP, prompts_equal=1, difference="data/a.jsonl:7: token 0 is [1] in generation, [5] in training"))),
        Facts(proofs=replace(PROOFS, generation=replace(STOP, generation_stops=(), stops_trained=0, stopped=0, last_token="<|im_end|>"))),
    ),
    silent=(Facts(proofs=PROOFS), Facts(proofs=replace(PROOFS, generation=replace(STOP, answers=1, prompts_equal=1, stops_trained=1, stopped=1)))),
)
