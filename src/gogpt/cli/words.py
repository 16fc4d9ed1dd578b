"""The command line's own words in Chinese: a table over its English format strings.

``say(lang, "step {step}", step=3)``: the English text is the key, so that a reader sees in the code what is
printed, and a third language is one more table.
"""

from __future__ import annotations

from typing import Any

ZH = {
    "cluster   {count} x {device} ({source}), {engine}": "集群      {count} x {device}（{source}），{engine}",
    "model     {method}: {trained} of {all} parameters": "模型      {method}：训练 {all} 个参数中的 {trained} 个",
    "batch     {batch} rows of {length} tokens = {micro} x {accumulation} accumulated x {count} devices; {tokens} tokens a step":
        "批次      {batch} 行，每行 {length} 个 token = {micro} x {accumulation} 次累积 x {count} 个设备；每步 {tokens} 个 token",
    "memory    {total} of {available} a device = {parts}": "显存      每个设备 {available} 中占 {total} = {parts}",
    "compute   {ops} operations a token ({more} of them for recomputation): {seconds} s a step":
        "计算      每个 token {ops} 次运算（其中 {more} 用于重计算）：每步 {seconds} 秒",
    "network   each device sends {sent} a step: {seconds} s": "通信      每个设备每步发送 {sent}：{seconds} 秒",
    "a step    {seconds} s = the slower of the two + {update} s for the update":
        "每步      {seconds} 秒 = 两者中较慢的 + 更新 {update} 秒",
    "run       {tokens} tokens, {steps} steps: {time}, {rate} tokens/s, {hours} device hours":
        "全程      {tokens} 个 token，{steps} 步：{time}，每秒 {rate} 个 token，{hours} 设备小时",
    "assumed   {utilisation} of the peak, {link} of the links' rate, rows full, traffic hidden behind compute, {prepare} tokens/s prepared by {cores} core a device":
        "假设      达到峰值的 {utilisation}，链路速率的 {link}，各行填满，通信与计算重叠，每个设备配 {cores} 个核，每核每秒准备 {prepare} 个 token",
    "holds     {what}: {share} of the limit": "足够      {what}：占上限的 {share}",
    "breaks    {what}: {share} of the limit; mended by {answer}": "不足      {what}：占上限的 {share}；可用 {answer} 解决",
    "breaks    {what}: {share} of the limit; no setting mends it on these devices, take more of them":
        "不足      {what}：占上限的 {share}；在这些设备上没有设置能解决，请增加设备",
    "weights": "权重",
    "optimizer": "优化器",
    "copies": "计算用副本",
    "activations": "激活",
    "reserve": "预留",
    "network": "通信",
    "batch": "批次大小",
    "data": "数据准备",
    "host      {size} a device lies in the CPU's memory; what moving it costs is not counted": "主机      每个设备有 {size} 放在 CPU 内存中；搬运的时间未计入",
    "{n} days": "{n} 天",
    "tool      {release}, {method}, {precision}": "工具      {release}，{method}，{precision}",
    "batch     {micro} x {accumulation} x {world} processes = {batch} sequences a step": "批次      {micro} x {accumulation} x {world} 个进程 = 每步 {batch} 个序列",
    "steps     about {steps:,}, learning rate up to {rate:g} ({schedule})": "步数      约 {steps:,}，学习率最高 {rate:g}（{schedule}）",
    "written   {path}; what would happen: gogpt plan {path}": "已写入    {path}；查看将会发生什么：gogpt plan {path}",
    "not read  {what}: {why}": "未读取    {what}：{why}",
    "not checked {codes}: {why}": "未检查 {codes}：{why}",
    "data      {rows:,} rows in, {dropped:,} dropped, {kept:,} conversations ({schema})": "数据      读入 {rows:,} 行，丢弃 {dropped:,} 行，{kept:,} 条对话（{schema}）",
    "none": "无", "yes": "有", "torch": "PyTorch 版本", "GPUs": "GPU 列表", "CUDA toolkits": "CUDA 工具包", "compilers": "编译器", "libraries": "依赖库", "4 bits": "4-bit 量化",
    "disk": "磁盘剩余", "memory": "内存", "hub cache": "hub 缓存", "no line looks like an error": "没有看起来像错误的行",
    "  later lines that only follow from an error: {count}": "  其后由某个错误引起的行：{count}",
    "reading data": "读取数据",
    "evaluating": "评估",
    "{count} rows spell special tokens, which were encoded as such": "{count} 行的文本中写有特殊 token，已按特殊 token 编码",
    "evaluated {examples:,} examples, {tokens:,} trained tokens, template {template}": "评估      {examples:,} 个样本，{tokens:,} 个被训练的 token，模板 {template}",
    "dropped   {dropped:,} of {rows:,} rows read ({reasons})": "丢弃      读入的 {rows:,} 行中丢弃 {dropped:,} 行（{reasons}）",
    "loss      {loss:.6f}, perplexity {perplexity:.4g}": "损失      {loss:.6f}，困惑度 {perplexity:.4g}",
    "file": "文件",
    "timing micro-batches": "为微批次计时",
    "loading the model": "加载模型",
    "starting {processes} processes ({engine})": "启动 {processes} 个进程（{engine}）",
    "saving the model": "保存模型",
    "loading base and adapter": "加载基座与适配器",
    "merging": "合并",
    "saving": "保存",
    "proving what was saved": "验证已保存的模型",
    "proving step 0": "训练前验证",
    "proven    {names} ({seconds:.1f} s)": "已验证    {names}（{seconds:.1f} 秒）",
    "not proven {name}: {why}": "未能验证 {name}：{why}",
    "accumulation": "梯度累积", "packing": "打包隔离", "gradients": "梯度", "adapter": "权重更新", "initial_loss": "初始损失", "generation": "生成停止",
    "training": "训练",
    "training from step {step}": "从第 {step} 步继续训练",
    "rows": "行",
    "left": "剩余",
    "data      {rows:,} rows in, {dropped:,} dropped, {examples:,} examples to train, {held:,} held out":
        "数据      读入 {rows:,} 行，丢弃 {dropped:,} 行，训练样本 {examples:,} 个，留出 {held:,} 个",
    "tokens    {tokens} an epoch, {trained} trained ({share:.0%}), template {template}":
        "token     每轮 {tokens}，其中训练 {trained}（{share:.0%}），模板 {template}",
    "plan      {steps:,} steps of {batch} rows ({epochs:.3g} epochs), learning rate up to {rate:g} ({schedule}, warm-up {warmup} steps), {precision}":
        "计划      {steps:,} 步，每步 {batch} 行（{epochs:.3g} 轮），学习率最高 {rate:g}（{schedule}，预热 {warmup} 步），{precision}",
    "streaming judged on the first {rows:,} rows; the others are read while training": "流式      仅依据前 {rows:,} 行判断；其余的行在训练时读取",
    "tokens    {tokens} in them, {trained} trained ({share:.0%}), template {template}": "token     其中 {tokens}，训练 {trained}（{share:.0%}），模板 {template}",
    "plan      {steps:,} steps of {batch} rows, learning rate up to {rate:g} ({schedule}, warm-up {warmup} steps), {precision}":
        "计划      {steps:,} 步，每步 {batch} 行，学习率最高 {rate:g}（{schedule}，预热 {warmup} 步），{precision}",
    "reading the stream again up to the checkpoint": "重新读取数据流，直到检查点",
    "train     {trainable} of {parameters} parameters ({method})": "训练      {parameters} 个参数中的 {trainable} 个（{method}）",
    "loss {loss:.4f}  lr {lr:.2e}  {rate:,.0f} tokens/s": "损失 {loss:.4f}  学习率 {lr:.2e}  {rate:,.0f} token/秒",
    "step {step}/{total}  {info}  left {left}": "第 {step}/{total} 步  {info}  剩余 {left}",
    "step {step}  evaluation loss {loss:.4f} over {tokens:,} trained tokens ({seconds:.1f} s)":
        "第 {step} 步  评估损失 {loss:.4f}（{tokens:,} 个被训练的 token，{seconds:.1f} 秒）",
    "interrupted at step {step}; everything is saved. Go on with:\n  gogpt train --resume {folder}":
        "在第 {step} 步中断；一切均已保存。继续：\n  gogpt train --resume {folder}",
    "the run is finished; there is nothing to go on with: {folder}/final": "该训练已完成，无需继续：{folder}/final",
    "done      {steps} steps\nmodel     {folder}/final\nreport    {folder}/report.html\ntalk      gogpt chat {folder}":
        "完成      {steps} 步\n模型      {folder}/final\n报告      {folder}/report.html\n对话      gogpt chat {folder}",
    'done      {steps} steps\nmodel     {folder}/final\nreport    {folder}/report.html\ngo on     gogpt generate {folder} --template none "Once upon a time"':
        '完成      {steps} 步\n模型      {folder}/final\n报告      {folder}/report.html\n续写      gogpt generate {folder} --template none "很久以前"',
    'done      {steps} steps (stopped early)\nmodel     {folder}/final\nreport    {folder}/report.html\ngo on     gogpt generate {folder} --template none "Once upon a time"':
        '完成      {steps} 步（提前停止）\n模型      {folder}/final\n报告      {folder}/report.html\n续写      gogpt generate {folder} --template none "很久以前"',
    "done      {steps} steps (stopped early)\nmodel     {folder}/final\nreport    {folder}/report.html\ntalk      gogpt chat {folder}":
        "完成      {steps} 步（提前停止）\n模型      {folder}/final\n报告      {folder}/report.html\n对话      gogpt chat {folder}",
    "dropped": "丢弃", "reported": "报告", "first": "首例", "an epoch of": "每轮", "examples": "样本", "in an epoch": "每轮样本", "share": "占比",
    "tokens": "token 数", "trained tokens": "训练 token", "repeats": "重复",
    "nothing was kept (--dry-run)": "没有保留任何内容（--dry-run）",
    "set       {folder} ({size}), {how}": "数据集    {folder}（{size}），{how}",
    "made in {seconds:.1f} s with {engine}": "用时 {seconds:.1f} 秒，分词库 {engine}",
    "up to date": "已是最新",
    "removed   {path}": "已删除    {path}",
    "lr        {scheduler} of the file over {steps:,} steps, peak {peak:g}, last {last:g}": "学习率    文件中的 {scheduler}，共 {steps:,} 步，峰值 {peak:g}，最后 {last:g}",
    "written   {path}, {findings} findings left": "已写出    {path}，剩余 {findings} 个发现",
    "run       {tool}: {files}": "训练      {tool}：{files}",
    "steps     {records:,} records, up to step {last}; planned {planned}; steps by {source}; epochs {epochs}":
        "步数      {records:,} 条记录，到第 {last} 步；计划 {planned}；步数依据：{source}；轮数 {epochs}",
    "steps as logged": "日志中的步数", "the progress bar": "进度条", "the epoch counter": "轮数计数器", "counting the records": "记录的条数", "not known": "未知",
    "command line": "命令行", "progress bar": "进度条", "epoch counter": "轮数计数器", "settings in the event file": "事件文件中的设置",
    "asked     {known}": "要求      {known}",
    "          tell what is not known, to have it checked: {keys}": "          补充未知的设置即可一并检查：{keys}",
    "lr": "学习率", "loss": "损失",
    "{name:<9} {count:,} records, from {first:.4g}, highest {peak:.4g}, last {last:.4g}": "{name:<9} {count:,} 条记录，起始 {first:.4g}，最高 {peak:.4g}，最后 {last:.4g}",
    "not checked: {code}": "未检查：{code}",
    "log       no loss and no learning rate in it; its first error:": "日志      其中没有损失和学习率；第一个错误：",
    "log       no loss, no learning rate and no error in it": "日志      其中没有损失、学习率，也没有错误",
    "{checks} checks, nothing found": "{checks} 项检查，没有发现问题",
    "{checks} checks, 1 finding": "{checks} 项检查，1 个发现",
    "{checks} checks, {findings} findings": "{checks} 项检查，{findings} 个发现",
    "reading the corpus and training the vocabulary": "读取语料并训练词表",
    "reading the corpus": "读取语料",
    "merging the vocabularies": "合并词表",
    "saving the tokenizer": "保存分词器",
    "writing the embeddings": "写入嵌入",
    "measuring": "测量压缩率",
    "corpus    {texts:,} texts, {characters:,} characters": "语料      {texts:,} 篇文本，{characters:,} 个字符",
    "tokenizer {folder}: {kind}, {size:,} tokens, read by transformers as {cls}": "分词器    {folder}：{kind}，{size:,} 个 token，transformers 以 {cls} 读取",
    "tokenizer {folder}: {new:,} new tokens, ids {first} to {last}; {present:,} were in the base":
        "分词器    {folder}：新增 {new:,} 个 token，id 从 {first} 到 {last}；{present:,} 个基座已有",
    "left out  {number:,} that the base's own merges would never let come about": "略去 {number:,} 个：基座自身的合并使其永远不会出现",
    "left out  {number:,} that the base cuts before it merges": "略去 {number:,} 个：基座在合并之前就会切开",
    "left out  {number:,} that would change how the base's text is cut": "略去 {number:,} 个：会改变基座文本的切分",
    "model     {base:,} rows are now {rows:,} ({form}), new ones {init}; written anew: {files}":
        "模型      {base:,} 行现为 {rows:,} 行（{form}），新行为 {init}；重新写入：{files}",
    "tied": "输入输出共享",
    "input and output": "输入与输出",
    "train     method.new_tokens: rows in the recipe trains the new rows": "训练      在配方中设 method.new_tokens: rows 即训练新行",
    "characters per token, {where}": "每个 token 的字符数（{where}）",
    "on texts held out": "留出的文本",
    "on texts of the training (too few to hold out)": "训练所用文本，数量太少无法留出",
    "on the corpus": "整个语料",
    "stopping: this step is finished and saved first (once more stops at once)": "正在停止：先完成并保存这一步（再按一次立即停止）",
}


def say(lang: str, text: str, **values: Any) -> str:
    """``text`` in ``lang``, filled. A text without a translation stays English."""
    return (ZH.get(text, text) if lang == "zh" else text).format(**values)
