"""Pages of the codes that are raised as GogptError: what was asked for cannot be done, so no check runs."""

from __future__ import annotations

from gogpt.findings import Page, Text


def _page(
    *, title: tuple[str, str], what: tuple[str, str], why: tuple[str, str], fix: tuple[str, str], example: str
) -> Page:
    return Page(title=Text(*title), what=Text(*what), why=Text(*why), fix=Text(*fix), example=example)


PAGES: dict[str, Page] = {
    "ENV110": _page(
        title=("the disk is full, or cannot be written", "磁盘已满或无法写入"),
        what=(
            "Whether the files of the run can be written: the folder exists, may be written to, and has room for checkpoints.",
            "检查训练的文件能否写入：目录存在、有写权限，且有空间保存检查点。",
        ),
        why=(
            "A checkpoint that is cut short loads as a broken model or not at all. GoGPT writes to a temporary file and renames it, "
            "so that the last whole checkpoint stays whole.",
            "写到一半的检查点会加载成损坏的模型，或根本无法加载。GoGPT 先写临时文件再改名，因此最近的完整检查点不会损坏。",
        ),
        fix=(
            "Free some space, lower train.keep_checkpoints, or set output to a folder on another disk. A full run can go on with "
            "gogpt train --resume RUN.",
            "释放空间，减小 train.keep_checkpoints，或把 output 设到另一块磁盘。之后可用 gogpt train --resume RUN 继续。",
        ),
        example="""ENV110 runs/a/checkpoints/step-300: the disk is full
  got:      12 MiB free
  fix:      free some room, or write elsewhere (output=...)

output: other-disk/runs/a
train:
  keep_checkpoints: 1""",
    ),
    "ENV111": _page(
        title=("an optional package is missing", "缺少可选的软件包"),
        what=(
            "Whether a package that this command or setting needs is installed. Packages that most runs do not need are optional: "
            "deepspeed, bitsandbytes, tensorboard, gguf, rensa, py3langid, ray.",
            "检查该命令或设置所需的软件包是否已安装。多数训练用不到的包是可选的：deepspeed、bitsandbytes、tensorboard、gguf、rensa、py3langid、ray。",
        ),
        why=(
            "Going on without it would mean ignoring the setting, which GoGPT does not do.",
            "若不装就继续，等于忽略该设置，GoGPT 不会这样做。",
        ),
        fix=(
            "Install the extra that the message names, or take the setting out of the recipe.",
            "安装报错信息所列的附加依赖，或从配方中去掉该设置。",
        ),
        example="""ENV111: report_to: tensorboard needs the package tensorboard
  fix:      pip install 'gogpt[tensorboard]'

train:
  report_to: []""",
    ),
    "ENV114": _page(
        title=("a process that prepares data was ended", "准备数据的进程被终止"),
        what=(
            "Whether every process that reads and encodes data came to its end by itself. Of a Ray cluster (parallel.prepare: ray, gogpt evaluate --ray): whether "
            "some part of the work lost its worker three times; up to then it is done again by another.",
            "检查每个读取和编码数据的进程是否自行结束。对于 Ray 集群（parallel.prepare: ray、gogpt evaluate --ray）：检查是否有某部分工作三次失去执行它的 worker；在此之前会由另一个 worker 重做。",
        ),
        why=(
            "A process that the system ends (mostly for want of memory) takes its rows with it; a set without them must not pass for whole.",
            "被系统终止的进程（多半因为内存不足）会带走它的数据；缺了这些行的数据集不能当作完整的。",
        ),
        fix=(
            "Use fewer processes (data.workers). What was made is kept: the same command goes on from there.",
            "减少进程数（data.workers）。已完成的部分会保留：同一命令会从那里继续。",
        ),
        example="""ENV114 data/chats.jsonl: a process that prepares data was ended from outside
  expected: enough memory for every process
  fix:      set data.workers to fewer processes; what was made is kept, and the same command goes on from there

gogpt prepare recipe.yaml data.workers=2""",
    ),
    "ENV115": _page(
        title=("the lock of a broken build is in the way", "残留的编译锁挡住了启动"),
        what=(
            "Whether a folder of compiled extensions (TORCH_EXTENSIONS_DIR, by default ~/.cache/torch_extensions) holds the lock of a build that nobody "
            "goes on with: one older than half an hour.",
            "检查编译扩展的目录（TORCH_EXTENSIONS_DIR，默认 ~/.cache/torch_extensions）中是否留有无人继续的编译锁：超过半小时的锁。",
        ),
        why=(
            "torch compiles DeepSpeed's extensions at the first start and keeps others out with a file. A process that is killed while it compiles leaves the "
            "file, and every later start waits for it without end and without a word.",
            "torch 在首次启动时编译 DeepSpeed 的扩展，并用一个文件阻止其他进程。若进程在编译时被杀，该文件会留下，之后每次启动都会无声地一直等待。",
        ),
        fix=(
            "Remove the folder that the message names: the extension is built again, once.",
            "删除报错信息所列的目录：扩展会重新编译一次。",
        ),
        example="""ENV115 ~/.cache/torch_extensions/py311_cu126/cpu_adam/lock: a build of an extension was broken off, and its lock is still there
  got:      a lock 95 minutes old
  expected: none, or a build that is going on
  fix:      rm -r ~/.cache/torch_extensions/py311_cu126/cpu_adam, which makes it be built again""",
    ),
    "ENV116": _page(
        title=("a node of the Ray cluster does not see a file", "Ray 集群的某个节点看不到文件"),
        what=(
            "Whether every worker of a Ray cluster reads what this computer reads: the files of the data (parallel.prepare: ray), compared by a digest of the "
            "bytes that the worker was given to prepare, and the model (gogpt evaluate --ray).",
            "检查 Ray 集群的每个 worker 读到的是否与本机相同：数据文件（parallel.prepare: ray），按分配给该 worker 的那段字节的摘要比较；以及模型（gogpt evaluate --ray）。",
        ),
        why=(
            "A path means another thing on each computer. A file that is missing on one node leaves a hole in the set; an older copy under the same path would make "
            "another set without a word.",
            "同一路径在不同计算机上可能指向不同的东西。某个节点缺少文件，数据集就会缺一块；同一路径下若是旧副本，则会悄无声息地得到另一个数据集。",
        ),
        fix=(
            "Put data and model into a folder that all nodes share, under the same path. What was made is kept: the same command goes on from there.",
            "把数据和模型放到所有节点以相同路径共享的目录中。已完成的部分会保留：同一命令会从那里继续。",
        ),
        example="""ENV116 node 10.0.0.7: /data/chats.jsonl: a file cannot be read on a node of the Ray cluster: No such file or directory
  expected: the same files under the same paths on every node
  fix:      put the data and the model into a folder that all nodes share

data: {train: /shared/chats.jsonl}
parallel: {prepare: ray}""",
    ),
    "ENV117": _page(
        title=("the Ray cluster cannot be used", "Ray 集群无法使用"),
        what=(
            "Whether the Ray cluster that was asked for answers (that of RAY_ADDRESS, the one that runs on this computer, or one that is started for the command), and "
            "whether each of its nodes has the same code: GoGPT by a digest of its files, and the libraries that decide what is encoded and computed.",
            "检查所要求的 Ray 集群是否可用（RAY_ADDRESS 指定的、本机上运行的，或为该命令启动的），以及每个节点的代码是否相同：GoGPT 按其文件的摘要比较，并比较决定编码与计算结果的库的版本。",
        ),
        why=(
            "A set is named by all that it was made of. A node with another tokenizer library or another GoGPT would put other ids into it under the same name.",
            "数据集以构成它的一切命名。若某个节点使用另一版本的分词库或 GoGPT，就会在同一名称下写入不同的 id。",
        ),
        fix=(
            "Start the cluster (ray start --head here, ray start --address=HOST:6379 on the other nodes) from environments with the same versions; or take RAY_ADDRESS "
            "out of the environment, or parallel.prepare out of the recipe.",
            "用版本相同的环境启动集群（本机执行 ray start --head，其他节点执行 ray start --address=HOST:6379）；或从环境中去掉 RAY_ADDRESS，或从配方中去掉 parallel.prepare。",
        ),
        example="""ENV117 node 10.0.0.7: a node of the Ray cluster has other code than the driver
  got:      tokenizers 0.22.0
  expected: tokenizers 0.23.3
  fix:      install the same versions on every node""",
    ),
    "ENV130": _page(
        title=("the log holds an error", "日志中有错误"),
        what=(
            "The first real error of a log that was given to gogpt doctor --log: warnings are passed over, and lines that only follow from "
            "another (FAILED:, an exit code, a watchdog on a rank that waited) count when nothing else explains them.",
            "交给 gogpt doctor --log 的日志中第一个真正的错误：跳过警告；只是由其他错误引起的行（FAILED:、退出码、等待的 rank 上的 watchdog）"
            "仅在没有别的解释时才算。",
        ),
        why=(
            "The last line of a log rarely says what went wrong: FAILED: multi_tensor_adam.cuda.o follows from a compiler that was not found "
            "far above (deepspeedai/DeepSpeed#6912), a timeout of seven ranks from the eighth.",
            "日志的最后一行很少说明原因：FAILED: multi_tensor_adam.cuda.o 源于远在上方的找不到编译器（deepspeedai/DeepSpeed#6912），七个 rank 的超时源于第八个。",
        ),
        fix=(
            "Do what the finding says. The table of known errors is src/gogpt/logs.yaml; a log that it does not explain is worth an issue.",
            "按给出的办法处理。已知错误的表在 src/gogpt/logs.yaml；它解释不了的日志值得提一个 issue。",
        ),
        example="""error ENV130 build.log:2: /usr/usr/local/cuda-12.2/bin/nvcc is not there: CUDA_HOME begins with a doubled /usr, so that no file is compiled
  fix: export CUDA_HOME=/usr/local/cuda-12.2; ...

gogpt doctor --log build.log""",
    ),
    "ENV131": _page(
        title=("what the doctor is to look at is not there", "没有可供检查的对象"),
        what=(
            "Whether the log, recipe or folder given to gogpt doctor exists and can be read.",
            "检查交给 gogpt doctor 的日志、配方或目录是否存在且可读。",
        ),
        why=("A log that was not read must not look like one without errors.", "没有读到的日志不能当作没有错误的日志。"),
        fix=(
            "Give the path of the file. COMMAND 2>&1 | tee build.log writes a log with everything in it.",
            "给出文件路径。COMMAND 2>&1 | tee build.log 可写出完整的日志。",
        ),
        example="""ENV131 buld.log: the log cannot be read: No such file or directory
  expected: a text file, or one in gzip

gogpt doctor --log build.log""",
    ),
    "CFG200": _page(
        title=("no such recipe", "没有这个配方"),
        what=("Whether the recipe's path names a file that can be read.", "检查配方路径是否指向一个可读取的文件。"),
        why=(
            "A recipe that is not found must not be replaced by defaults. Near names in the same folder are suggested.",
            "找不到配方时不能用默认值代替。会提示同一目录中相近的文件名。",
        ),
        fix=(
            "Give the path of the YAML file, relative to the current folder.",
            "给出 YAML 文件的路径（相对于当前目录）。",
        ),
        example="""CFG200 my-recip.yaml: there is no such recipe
  fix:      did you mean my-recipe.yaml?

gogpt train my-recipe.yaml""",
    ),
    "CFG201": _page(
        title=("the recipe is not a YAML mapping", "配方不是 YAML 映射"),
        what=(
            "Whether the recipe is UTF-8 text, valid YAML, a mapping of keys to values, and names no key twice.",
            "检查配方是否为 UTF-8 文本、有效的 YAML、键值映射，且没有重复的键。",
        ),
        why=(
            "Most YAML readers take the last of two equal keys and say nothing: half of the recipe is then ignored. Numbers follow "
            "YAML 1.2 here, so that 2e-4 is a number and not a text.",
            "多数 YAML 解析器遇到重复的键会静默取最后一个，等于忽略了一部分配方。这里的数字遵循 YAML 1.2，因此 2e-4 是数而不是文本。",
        ),
        fix=(
            "Correct the line that the message names: indent with spaces, put a space after each colon, write each key once.",
            "修正报错所指的行：用空格缩进，冒号后加空格，每个键只写一次。",
        ),
        example="""CFG201 recipe.yaml:7: not valid YAML: the key 'epochs' stands twice
  fix:      correct the line; indent with spaces and put a space after each colon

train:
  epochs: 3
  learning_rate: 2e-4""",
    ),
    "CFG202": _page(
        title=("the recipe has wrong keys or values", "配方中有错误的键或值"),
        what=(
            "Whether every key of the recipe is known and every value is of its kind. All mistakes are told at once, each with its "
            "line and a near name.",
            "检查配方的每个键是否存在、每个值的类型和取值是否正确。一次列出所有错误，并给出行号和相近的名称。",
        ),
        why=(
            "A misspelt key that is ignored trains with the default instead: learning_rte: 1e-5 would train at 2e-4.",
            "拼错的键若被忽略，就会按默认值训练：写 learning_rte: 1e-5 实际会用 2e-4。",
        ),
        fix=(
            "Correct each line of the message. gogpt schema prints all keys with their kinds and defaults; editors can check the "
            "recipe against it.",
            "逐行修正报错。gogpt schema 会打印所有键及其类型和默认值，编辑器也可据此检查配方。",
        ),
        example="""CFG202 recipe.yaml: 1 mistake in the recipe
  recipe.yaml:6: unknown key 'train.learning_rte'; did you mean 'learning_rate'?
  fix:      correct every line above; gogpt schema prints all keys

train:
  learning_rate: 2e-4""",
    ),
    "CFG204": _page(
        title=("an override cannot be read", "无法解析命令行覆盖项"),
        what=(
            "Whether each key=value of the command line has the form of a recipe key with dots between levels, and a place in the recipe.",
            "检查命令行的每个 key=value 是否是用点分隔层级的配方键，且在配方中有对应位置。",
        ),
        why=(
            "An override that goes nowhere would leave the recipe as it was, and the run would not be the one that was asked for.",
            "没有落点的覆盖项不会改变配方，跑出来的就不是想要的训练。",
        ),
        fix=(
            "Write the key as in the recipe: train.learning_rate=1e-4, data.train.0.path=b.jsonl. No spaces around the equals sign.",
            "按配方中的写法书写键：train.learning_rate=1e-4、data.train.0.path=b.jsonl。等号两侧不要有空格。",
        ),
        example="""CFG204 command line: cannot read 'learning-rate 1e-4'
  expected: key=value, as in train.learning_rate=1e-4

gogpt train recipe.yaml train.learning_rate=1e-4""",
    ),
    "CFG205": _page(
        title=("unknown code", "未知的代码"),
        what=(
            "Whether a code given to gogpt explain or in checks.allow is one of GoGPT's, and one in checks.policy that of a check of stage run (RUN6xx).",
            "检查 gogpt explain 或 checks.allow 中的代码是否存在，以及 checks.policy 中的代码是否为训练阶段的检查（RUN6xx）。",
        ),
        why=(
            "A misspelt code in checks.allow would allow nothing, and it would look as if it did; so would a policy for what is judged before training.",
            "checks.allow 中拼错的代码什么也不会放行，却看似放行了；为训练前的检查写策略也是如此。",
        ),
        fix=(
            "Codes are three letters and three digits: ENV1xx CFG2xx DAT3xx TOK4xx MOD5xx RUN6xx EXP7xx. docs/checks lists them all.",
            "代码由三个字母和三位数字组成：ENV1xx CFG2xx DAT3xx TOK4xx MOD5xx RUN6xx EXP7xx。docs/checks 列出了全部代码。",
        ),
        example="""CFG205: there is no code 'TOK430'
  fix:      did you mean TOK403 (no_trained_token)?

checks:
  allow: [TOK403]""",
    ),
    "CFG206": _page(
        title=("the object is not recognised", "无法识别该对象"),
        what=(
            "What the object given to a command is: a recipe, a configuration or launch script of another tool, a DeepSpeed file, data, an "
            "adapter or model folder, a run folder, a log. It is recognised by its content, not declared.",
            "判断交给命令的对象是什么：配方、其他工具的配置或启动脚本、DeepSpeed 文件、数据、适配器或模型目录、训练目录、日志。"
            "根据内容识别，无需声明。",
        ),
        why=(
            "A guess would check or train something other than what was meant. What can be two things is said to be both.",
            "若靠猜测，检查或训练的就可能不是想要的东西。可能是两种东西时会同时说明。",
        ),
        fix=(
            "Give an object of a kind that the message lists, the folder rather than a file of weights in it, and take the nearest guess into "
            "account. A recipe has the key model; a model folder holds config.json; an adapter folder adapter_config.json.",
            "给出报错所列种类的对象（给目录而不是其中的权重文件），并参考最接近的猜测。配方含有 model 键；模型目录含有 config.json；"
            "适配器目录含有 adapter_config.json。",
        ),
        example="""CFG206 settings.yaml: this is nothing that can be checked
  got:      a mapping with the keys base_modl, micro_batch
  fix:      the nearest is Axolotl: is base_modl meant to be base_model?

gogpt check axolotl.yaml""",
    ),
    "CFG230": _page(
        title=("a setting that this version does not offer yet", "该版本尚不支持的设置"),
        what=(
            "Whether the recipe asks for something that its language has words for but this version cannot do: method qlora with the engines fsdp and "
            "deepspeed; or train.rollbacks together with several processes, fp16 or data.streaming.",
            "检查配方是否要求了语法允许但该版本尚不能做的事：在 fsdp 或 deepspeed 引擎上使用 qlora；或 train.rollbacks 与多进程、fp16 或 data.streaming 同用。",
        ),
        why=(
            "Going on without it would train with another method or more memory than the recipe says. A setting is refused rather "
            "than ignored.",
            "若忽略它继续训练，方法或内存就与配方不符。宁可拒绝也不忽略。",
        ),
        fix=("Use what the message offers: engine ddp, or method lora.", "使用报错所建议的设置：ddp 引擎，或 lora 方法。"),
        example="""CFG230 recipe: this version does not offer method.kind: qlora with parallel.engine: fsdp
  expected: method qlora in one process or with engine ddp
  fix:      parallel.engine: ddp, or method.kind: lora

parallel:
  engine: ddp""",
    ),
    "CFG231": _page(
        title=("a key of train.trainer cannot be passed on", "train.trainer 中的键无法传递"),
        what=(
            "Whether each key of train.trainer is a field of TrainingArguments in the installed transformers, and none that GoGPT "
            "sets itself from the recipe (learning_rate, max_steps, output_dir and others).",
            "检查 train.trainer 的每个键是否为已安装 transformers 的 TrainingArguments 字段，且不是 GoGPT 根据配方自行设置的"
            "（learning_rate、max_steps、output_dir 等）。",
        ),
        why=(
            "Fields come and go between versions of transformers. An unknown one would be lost, and one set twice would make the "
            "plan and the run differ.",
            "TrainingArguments 的字段随 transformers 版本增减。未知的键会丢失，重复设置的键会使计划与实际不一致。",
        ),
        fix=(
            "Use the recipe's own key where there is one, or the name that the installed version has.",
            "配方有对应的键就用配方的键，否则使用已安装版本中的名称。",
        ),
        example="""CFG231 recipe: train.trainer.learning_rate is set elsewhere
  fix:      use train.learning_rate

train:
  learning_rate: 1e-4
  trainer: {dataloader_pin_memory: false}""",
    ),
    "CFG232": _page(
        title=("method.new_tokens cannot be done with this model", "该模型无法使用 method.new_tokens"),
        what=(
            "Whether the rows that method.new_tokens names can be trained: rows needs to know which were added (gogpt_extension.json, written by gogpt tokenizer extend), a method that can train single rows, and an output head without a bias.",
            "检查 method.new_tokens 所指的行能否训练：rows 需要知道新增了哪些行（gogpt tokenizer extend 写入的 gogpt_extension.json）、能训练单独行的方法，以及没有偏置的输出头。",
        ),
        why=(
            "Guessing the new rows would train the wrong ones. PEFT trains single rows of an output head without adding its bias (0.21.2), so the model trained would not be the one that is served. Freeze marks whole matrices, and AdamW's decay would move every row of them.",
            "猜测新增的行会训练到错误的行。PEFT 训练输出头的单独行时会丢掉偏置（0.21.2），训练的模型就不是之后提供服务的模型。freeze 只能标记整个矩阵，AdamW 的衰减会改动其中每一行。",
        ),
        fix=(
            "Extend the model with gogpt tokenizer extend, use method.kind: lora, or train the whole matrices with method.new_tokens: all.",
            "用 gogpt tokenizer extend 扩展模型，使用 method.kind: lora，或用 method.new_tokens: all 训练整个矩阵。",
        ),
        example="""CFG232 models/base: method.new_tokens: rows cannot be done: the model does not say which tokens were added
  got:      no gogpt_extension.json in the folder
  fix:      extend it with gogpt tokenizer extend, or take method.new_tokens: all (every row), or none

method:
  kind: lora
  new_tokens: all""",
    ),
    "CFG233": _page(
        title=("a setting that method qlora cannot do, or that only it can", "qlora 方法不支持或仅其支持的设置"),
        what=(
            "Whether quant_type and double_quant stand beside method qlora, whether modules_to_save names a module that is held in 4 bits, "
            "whether model.dtype fits train.precision, and whether the weights are in safetensors files.",
            "检查 quant_type、double_quant 是否与 qlora 方法一同使用，modules_to_save 是否点名了以 4-bit 保存的模块，model.dtype 与 train.precision 是否相配，"
            "以及权重是否为 safetensors 文件。",
        ),
        why=(
            "Packed whole numbers have no gradient, and a setting that says nothing would be ignored.",
            "打包的整数没有梯度；不起作用的设置等于被忽略。",
        ),
        fix=(
            "Adapt the module (method.targets) instead of saving it whole; leave model.dtype at auto; take out what belongs to another method.",
            "用 method.targets 适配该模块，而不是整体保存；model.dtype 保持 auto；去掉属于其他方法的设置。",
        ),
        example="""CFG233 recipe: method.modules_to_save names modules that are held in 4 bits, which cannot be trained whole
  got:      down_proj
  expected: embed_tokens, lm_head or a norm
  fix:      adapt them: method.targets

method: {kind: qlora, modules_to_save: [lm_head]}""",
    ),
    "CFG234": _page(
        title=("prefixes cannot be shared here", "这里无法共享前缀"),
        what=(
            "train.shared_prefixes: on asks that examples of a step that begin alike are computed once up to where they part. That gives the same gradient only where "
        "a token's state depends on the tokens before it alone: full causal attention, no dropout, no mixture of experts that balances its load over the computed tokens; and only "
        "of packed conversations that are all there before training.",
            "train.shared_prefixes: on 要求同一步中开头相同的样本只计算一次公共前缀。只有当 token 的状态仅取决于它之前的 token 时梯度才相同：完全的因果注意力、"
        "没有 dropout、没有按计算 token 均衡负载的混合专家；并且要求对话已打包、训练前全部就绪。",
        ),
        why=(
            "Shared silently where it is not the same, it would train another model than the recipe says.",
            "若在结果不同的情况下悄悄共享，训练出的模型就不是配方所说的那个。",
        ),
        fix=(
            "train.shared_prefixes: auto trains the examples apart here; or take away what stands in the way.",
            "设为 train.shared_prefixes: auto，此时样本分开训练；或去掉妨碍共享的设置。",
        ),
        example="""CFG234 recipe: train.shared_prefixes: on, but prefixes cannot be shared here: method.dropout: each example would draw its own

train:
  shared_prefixes: auto""",
    ),
    "CFG240": _page(
        title=("rewriting needs the new name", "改写需要新的名称"),
        what=(
            "Whether data.clean.identity is there under identities: rewrite, and data.clean.maker where an answer names who made the assistant.",
            "检查 identities: rewrite 时是否给出 data.clean.identity；若回答提到开发者，还需 data.clean.maker。",
        ),
        why=(
            "A statement such as \"I am ChatGPT, trained by OpenAI\" names two things. Without a word for one of them, the rewritten answer would still "
            "teach the other.",
            "“我是 ChatGPT，由 OpenAI 训练”这样的话包含两个名称。缺少其中一个的替代词，改写后的回答仍会教给模型另一个。",
        ),
        fix=(
            "Give both names, or take identities: drop, which needs neither.",
            "给出两个名称，或改用不需要名称的 identities: drop。",
        ),
        example="""CFG240 data/chat.jsonl:12: an answer names who made the assistant, and there is no maker to put in its place
  got:      I am a large language model trained by OpenAI.
  expected: data.clean.maker
  fix:      set data.clean.maker, or data.clean.identities: drop

data:
  clean: {identities: rewrite, identity: GoGPT, maker: the GoGPT project}""",
    ),
    "CFG241": _page(
        title=("the file of identities cannot be used", "无法使用身份名称文件"),
        what=(
            "Whether data.clean.identities_file is YAML with a list of identities (name, and spellings under assistant or maker) or a list of refusals.",
            "检查 data.clean.identities_file 是否为 YAML，且含 identities 列表（name，以及 assistant 或 maker 下的写法）或 refusals 列表。",
        ),
        why=(
            "A name that is written under a wrong key would be looked for nowhere, and the data would be called clean.",
            "写在错误键下的名称不会被查找，数据却会被当作干净的。",
        ),
        fix=(
            "Correct the line that the message names. src/gogpt/data/identities.yaml shows the form; refusals are plain phrases.",
            "改正报错所指的行。格式见 src/gogpt/data/identities.yaml；refusals 为普通短语。",
        ),
        example="""CFG241 names.yaml:3: unknown key 'spellings'
  expected: name, assistant, maker, weak_assistant, weak_maker
  fix:      correct the line

identities:
  - name: House model
    assistant: [HouseGPT, 小屋助手]
    maker: [House Inc]
refusals:
  - this goes beyond my duties""",
    ),
    "CFG242": _page(
        title=("no such language", "没有这种语言"),
        what=(
            "Whether each of data.clean.languages is a code that the language identifier gives.",
            "检查 data.clean.languages 的每一项是否为语言识别器会给出的代码。",
        ),
        why=(
            "A language that is never given would drop every row.",
            "识别器永不给出的语言会导致所有行被丢弃。",
        ),
        fix=(
            "Use two-letter codes (ISO 639-1): zh, en, ja, de.",
            "使用两字母代码（ISO 639-1）：zh、en、ja、de。",
        ),
        example="""CFG242 recipe: data.clean.languages: no such language: chinese
  expected: codes of ISO 639-1, such as zh, en, ja
  fix:      did you mean zh?

data:
  clean: {languages: [zh, en]}""",
    ),
    "CFG243": _page(
        title=("settings of the mix are at odds", "混合设置互相矛盾"),
        what=(
            "Whether at most one setting decides how much of a source an epoch holds: its weight, its count, data.mix.temperature or "
            "data.mix.languages; whether each share is above 0; and whether the sources of data.eval, which are read once and whole, have "
            "neither weight nor count.",
            "检查每个来源在一轮中的数量是否只由一个设置决定：weight、count、data.mix.temperature 或 data.mix.languages；各份额大于 0；"
            "且 data.eval 的来源（完整读取一次）没有 weight 和 count。",
        ),
        why=(
            "Two answers to one question: one of the settings would have to be ignored.",
            "同一问题有两个答案，就必须忽略其中一个设置。",
        ),
        fix=(
            "Keep the one that you mean. temperature balances sources, languages balance languages, weight and count say it by hand. "
            "To evaluate on a part of a source, give it a limit.",
            "只保留所需的那个。temperature 平衡来源，languages 平衡语言，weight 和 count 由人指定。若只想在来源的一部分上评估，请用 limit。",
        ),
        example="""CFG243 recipe: data.train[0] has a weight and a count
  got:      weight: 2, count: 500
  expected: one of them
  fix:      leave one of them out: weight is relative to what the source holds, count is not

data:
  train: [{path: a.jsonl, count: 500}]""",
    ),
    "CFG244": _page(
        title=("the mix asks for what the data does not hold", "混合所要求的内容数据中没有"),
        what=(
            "Whether each source with a count, and each language of data.mix.languages, has at least one example.",
            "检查每个带 count 的来源以及 data.mix.languages 的每种语言是否至少有一个样本。",
        ),
        why=(
            "A share of nothing cannot be met: under-sampling to it would take nothing at all.",
            "空集合的份额无法满足：按其欠采样会得到空数据。",
        ),
        fix=(
            "Take the source or language out of the mix, or add data. The ledger tells why rows were dropped, gogpt data inspect which languages there are.",
            "从混合中去掉该来源或语言，或补充数据。台账说明行为何被丢弃，gogpt data inspect 显示有哪些语言。",
        ),
        example="""CFG244 recipe: data.mix.languages: data.mix.languages names a language without examples: fr
  got:      examples by language: zh 812, en 640
  expected: at least one example of each
  fix:      leave it out, or add a source

data:
  mix: {languages: {zh: 1, en: 1}}""",
    ),
    "CFG250": _page(
        title=("a setting that means nothing in this stage", "该阶段中没有意义的设置"),
        what=(
            "Whether every setting of the recipe has a meaning in its stage. stage: pretrain trains documents whole, in rows of max_length: "
            "train_on, overlong, a template and packing: false say nothing there. Conversations (stage: sft) never attend to each other: "
            "across_documents says nothing there.",
            "检查配方中的每个设置在其阶段里是否有意义。stage: pretrain 把整篇文档训练在长度为 max_length 的行里，train_on、overlong、模板以及 "
            "packing: false 在那里没有意义。对话（stage: sft）之间从不互相注意，across_documents 在那里没有意义。",
        ),
        why=(
            "A setting that is ignored in silence is taken for one that works.",
            "被悄悄忽略的设置，会被误以为生效了。",
        ),
        fix=("Take the setting out, or choose the other stage.", "去掉该设置，或改用另一个阶段。"),
        example="""CFG250 recipe: data.train_on: has no meaning in stage pretrain
  expected: documents end with EOS, are packed to full rows of max_length and trained whole
  fix:      take it out, or choose the other stage

stage: pretrain
data: {train: books/, max_length: 2048}""",
    ),
    "CFG251": _page(
        title=("a stream cannot do this", "流式训练无法做到"),
        what=(
            "Whether a recipe with data.streaming: true has train.max_steps, and nothing that needs the whole set or a folder for it: "
            "data.eval as a fraction, data.mix.temperature, data.mix.languages, a source's count, data.clean.duplicates or data.clean.leakage: "
            "exact or near, data.prepared, data.workers, parallel.prepare: ray; and whether gogpt prepare is asked for the set of a stream.",
            "检查 data.streaming: true 的配方是否有 train.max_steps，并且没有需要完整数据集或其文件夹的设置：data.eval 为比例、data.mix.temperature、"
            "data.mix.languages、来源的 count、data.clean.duplicates 或 data.clean.leakage 为 exact 或 near、data.prepared、data.workers、parallel.prepare: ray；"
            "以及是否对流式配方使用 gogpt prepare。",
        ),
        why=(
            "A stream is read while it trains. How long an epoch is, which rows repeat and which share a language has, is known only when all of "
            "it was read; an approximation would be another set than the recipe says.",
            "流式数据边读边训练。一轮有多长、哪些行重复、某语言占多少，只有读完全部数据才知道；近似的结果与配方所写的不是同一个数据集。",
        ),
        fix=(
            "Set train.max_steps, evaluate on a file of its own, balance sources by weight (the rate at which their rows are read), and remove duplicates "
            "beforehand. Or take data.streaming out and let the set be prepared.",
            "设置 train.max_steps；用单独的文件评估；用 weight（读取各来源行的速率）平衡来源；事先去除重复。或者去掉 data.streaming，先准备数据集。",
        ),
        example="""CFG251 recipe: a stream cannot do data.eval: 0.02: the whole set is never there
  expected: evaluation from sources of its own, weights, and what is judged row by row
  fix:      take it out, or take data.streaming out and prepare the set

data:
  train: [{path: web/*.jsonl.zst}, {path: chat.jsonl, weight: 0.2}]
  eval: held_out.jsonl
  streaming: true
train:
  max_steps: 20000""",
    ),
    "CFG252": _page(
        title=("a launcher's numbers make no sense", "启动器给出的编号不合理"),
        what=(
            "Whether the environment variables by which torchrun, accelerate, deepspeed, srun or mpirun tell a process who it is (RANK, WORLD_SIZE, LOCAL_RANK, "
            "LOCAL_WORLD_SIZE, or SLURM_* and OMPI_*) are numbers that fit together.",
            "检查 torchrun、accelerate、deepspeed、srun 或 mpirun 用来告知进程身份的环境变量（RANK、WORLD_SIZE、LOCAL_RANK、LOCAL_WORLD_SIZE，或 SLURM_*、OMPI_*）是否为彼此相符的数字。",
        ),
        why=(
            "Left over from another session or set by half, they make every process wait for others that never come, up to the timeout of half an hour.",
            "若是其他会话的残留或只设了一半，所有进程都会等待永远不会出现的其他进程，直到半小时的超时。",
        ),
        fix=(
            "Unset them and start with gogpt train alone (parallel.processes), or start with one launcher.",
            "取消这些变量，只用 gogpt train（parallel.processes）启动；或只用一种启动器。",
        ),
        example="""CFG252 environment: the launcher's numbers do not fit together
  got:      rank 3 of 2, local rank 1 of 2
  expected: 0 <= rank < world size, and the same on the node
  fix:      unset RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, or start with one launcher alone

parallel: {engine: ddp, processes: 2}""",
    ),
    "CFG253": _page(
        title=("settings of parallel that do not go together", "parallel 的设置互相矛盾"),
        what=(
            "Whether parallel.engine, processes, nodes, zero, offload and config go together, with each other, with the method, the precision and the optimizer, "
            "and with the GPUs of this machine.",
            "检查 parallel.engine、processes、nodes、zero、offload、config 彼此之间，以及与训练方法、精度、优化器和本机 GPU 是否相容。",
        ),
        why=(
            "The engines ignore, or fall over, what they cannot do: FSDP asked of the Trainer on a CPU becomes DDP in silence; 4-bit weights cannot be sharded.",
            "引擎会忽略做不到的设置，或直接崩溃：在 CPU 上向 Trainer 要求 FSDP 会悄悄变成 DDP；4 位权重无法分片。",
        ),
        fix=("See docs/parallel.md for what each engine takes.", "各引擎支持的设置见 docs/parallel.md。"),
        example="""CFG253 recipe: parallel.zero without engine: deepspeed
  expected: settings that go together
  fix:      see docs/parallel.md for what each engine takes

parallel: {engine: deepspeed, zero: 2, processes: 8}""",
    ),
    "CFG254": _page(
        title=("other processes were started than the recipe asks for", "启动的进程数与配方不符"),
        what=(
            "Whether the processes that a launcher started are as many as parallel.processes x parallel.nodes. A recipe that names none takes what was started.",
            "检查启动器启动的进程数是否等于 parallel.processes × parallel.nodes。配方未写时，以实际启动的为准。",
        ),
        why=(
            "The number of processes decides the accumulation, and so the number of steps and the learning rates: a run with another number is another run.",
            "进程数决定梯度累积步数，进而决定总步数和学习率：进程数不同就是另一次训练。",
        ),
        fix=("Start as many as the recipe says, or leave parallel.processes out.", "按配方的数量启动，或去掉 parallel.processes。"),
        example="""CFG254 started by torchrun: other processes were started than the recipe asks for
  got:      2 processes
  expected: parallel.processes: 8, nodes: 1
  fix:      start 8, or leave parallel.processes out: it is then what the launcher starts""",
    ),
    "CFG256": _page(
        title=("this cluster cannot be planned", "无法为这个集群制定计划"),
        what=(
            "Whether gogpt plan --cluster names a known device or gives its memory and peak, whether nodes of 8 devices are full, and whether the length of the run is known.",
            "检查 gogpt plan --cluster 是否写出已知设备，或给出其显存与峰值算力；每个节点的 8 个设备是否用满；训练总长度是否已知。",
        ),
        why=(
            "Time and memory there follow from these numbers alone: with one of them guessed, all of them would be guesses.",
            "时间与显存全由这些数字推算：其中一个靠猜，结果就全是猜测。",
        ),
        fix=(
            "Name a device of the list, or give GiB and TFLOPS; give --tokens, or train.max_steps.",
            "从列表中选择设备，或给出 GiB 与 TFLOPS；用 --tokens 或 train.max_steps 给出总长度。",
        ),
        example="""CFG256 --cluster: no such cluster
  got:      '8xA100'
  expected: COUNTxDEVICE, a device of A100-40G, A100-80G, H100-80G, H200-141G; or COUNT x GIB @ TFLOPS
  fix:      for example 8xA100-80G, or '8 x 80 @ 312'

gogpt plan recipe.yaml --cluster 8xA100-80G --tokens 1e12""",
    ),
    "DAT300": _page(
        title=("no such data file", "没有这个数据文件"),
        what=(
            "Whether a path or pattern of data.train or data.eval names at least one file.",
            "检查 data.train 或 data.eval 的路径或通配符是否至少匹配一个文件。",
        ),
        why=(
            "A pattern that matches nothing would train on the other sources alone.",
            "若通配符什么也没匹配到还继续，就只会用其余数据源训练。",
        ),
        fix=(
            "Paths in a recipe are relative to the recipe; paths on the command line to the current folder. A near name is suggested.",
            "配方中的路径相对于配方文件，命令行中的路径相对于当前目录。会提示相近的文件名。",
        ),
        example="""DAT300 data/trian.jsonl: there is no such data file
  fix:      did you mean train.jsonl?

data:
  train: data/train.jsonl""",
    ),
    "DAT301": _page(
        title=("not valid JSON", "不是有效的 JSON"),
        what=(
            "Whether a .json file (an array of rows, or one object) can be parsed. In a .jsonl file a broken line is counted as "
            "unreadable and the others stay.",
            "检查 .json 文件（行的数组或单个对象）能否解析。在 .jsonl 文件中，损坏的行计为 unreadable，其余保留。",
        ),
        why=(
            "After a mistake in an array nothing says where the next row begins; what could still be read would be a part of the "
            "data, without a word about the rest.",
            "数组中出错后，无法确定下一行从哪里开始；若只取能读的部分，其余数据就无声地丢了。",
        ),
        fix=(
            "Correct the place that the message names (row, line, column), or write one object a line into a .jsonl file.",
            "修正报错指出的位置（行、列），或改写为每行一个对象的 .jsonl 文件。",
        ),
        example="""DAT301 data/a.json:118: not valid JSON in row 118: Expecting ',' delimiter (line 355 column 3)
  fix:      correct that place; rows after it in an array cannot be told apart""",
    ),
    "DAT302": _page(
        title=("the hub data set cannot be read", "无法读取 hub 数据集"),
        what=(
            "Whether a data set of the hub exists with this id, split, subset and revision, and can be reached.",
            "检查 hub 上是否存在该 id、split、subset、revision 的数据集，且能够访问。",
        ),
        why=(
            "owner/name may also be a local path with a slip in it: nothing is downloaded or skipped by guess.",
            "owner/name 也可能是写错的本地路径：不会凭猜测下载或跳过。",
        ),
        fix=(
            "Check the id, and the split with its subset. Offline, download the data set first and give its folder. For a local "
            "file, check the path.",
            "检查 id、split 和 subset。离线时请先下载数据集并给出其目录。若是本地文件，请检查路径。",
        ),
        example="""DAT302 owner/data: the data set cannot be read from the hub: Unknown split "trian"
  expected: a data set id, a split and a subset that exist, and a connection

data:
  train: {path: owner/data, split: train}""",
    ),
    "DAT303": _page(
        title=("the data file is unreadable", "数据文件无法读取"),
        what=(
            "Whether the file can be opened and read as what its content says: Parquet, Arrow, CSV, JSON, gzip or zstd; and whether "
            "at least one of its first rows is an object with named fields.",
            "检查文件能否按其内容打开读取：Parquet、Arrow、CSV、JSON、gzip 或 zstd；以及开头的行中是否至少有一行是带字段名的对象。",
        ),
        why=(
            "A download that was cut short, a Git LFS pointer or a permission problem would otherwise look like little data.",
            "下载中断、Git LFS 指针文件或权限问题，否则看起来只像是数据很少。",
        ),
        fix=(
            "Download the file again and compare its size. A file of 130 bytes that begins with 'version https://git-lfs' is a "
            "pointer: git lfs pull. Give the file the right permissions.",
            "重新下载并核对大小。约 130 字节且以 version https://git-lfs 开头的是指针文件：运行 git lfs pull。检查文件权限。",
        ),
        example="""DAT303 data/a.parquet: not readable as Parquet: Parquet magic bytes not found in footer

git lfs pull""",
    ),
    "DAT304": _page(
        title=("the data file or folder is empty", "数据文件或目录为空"),
        what=(
            "Whether a file has at least one row, and a folder at least one file of a known kind.",
            "检查文件至少有一行，目录中至少有一个已知类型的文件。",
        ),
        why=(
            "An empty source is nearly always a failed download or export; the run would go on with less data than meant.",
            "空数据源几乎总是下载或导出失败；若继续，训练数据会比预想的少。",
        ),
        fix=("Write the data again, or take the source out of the recipe.", "重新生成数据，或从配方中去掉该数据源。"),
        example="""DAT304 data/a.jsonl: the file is empty
  got:      0 bytes
  expected: at least one row""",
    ),
    "DAT305": _page(
        title=("binary data, or a wrong encoding", "二进制数据或编码错误"),
        what=(
            "Whether the file is text in UTF-8 (also with BOM), UTF-16 or GB18030. Other encodings are noted in the ledger; bytes "
            "that fit none are refused with their place.",
            "检查文件是否为 UTF-8（可带 BOM）、UTF-16 或 GB18030 文本。非 UTF-8 编码会记入账目；都不符合的字节会连同位置一起拒绝。",
        ),
        why=(
            "Text that is decoded wrongly trains the model on garbage that looks like characters.",
            "解码错误的文本会让模型学到看似文字的乱码。",
        ),
        fix=(
            "Save the file as UTF-8 (iconv -f gb18030 -t utf-8 a.json > b.json). Models, archives and PDF files are no training data.",
            "将文件保存为 UTF-8（iconv -f gb18030 -t utf-8 a.json > b.json）。模型、压缩包和 PDF 不是训练数据。",
        ),
        example="""DAT305 data/a.jsonl:41: not valid utf-8 text
  got:      byte 0xb5 at offset 20114
  fix:      save the file as UTF-8""",
    ),
    "DAT306": _page(
        title=("no schema fits the rows", "没有匹配的数据格式"),
        what=(
            "Which schema the first rows of a file have: alpaca (instruction, output), openai (messages), sharegpt (conversations) or "
            "text. None fits, or data.train names a schema that does not exist.",
            "判断文件开头各行的格式：alpaca（instruction、output）、openai（messages）、sharegpt（conversations）或 text。"
            "没有一个匹配，或 data.train 指定了不存在的格式。",
        ),
        why=(
            "A column under another name would be left out: TRL 1.16 trains without the answers when 'completion' is misspelt beside "
            "a 'text' column, silently.",
            "列名不符的内容会被漏掉：在已有 text 列时拼错 completion，TRL 1.16 会悄悄地在没有答案的情况下训练。",
        ),
        fix=(
            "Rename the columns to those of a schema; the message lists what each wants and which key is close. gogpt data convert "
            "writes any known shape as messages.",
            "把列名改为某个格式所要求的；报错会列出各格式的要求和相近的键。gogpt data convert 可把已知格式转换为 messages。",
        ),
        example="""DAT306 data/a.jsonl:1: no schema fits the rows
  got:      the keys instruction, ouput  ('ouput' is close to 'output')

{"instruction": "Name a colour.", "output": "Blue."}""",
    ),
    "DAT307": _page(
        title=("the file mixes schemas", "文件混用了多种格式"),
        what=(
            "Whether at least 95% of a file's first rows have one schema. A few odd rows are counted and left out; a mixture is refused.",
            "检查文件开头的行是否至少 95% 属于同一格式。少数异类行会计数并跳过；混用则拒绝。",
        ),
        why=(
            "Reading one of the schemas would drop the rows of the other, and choosing row by row would let a broken row pass as "
            "another schema.",
            "只读其中一种会丢掉另一种的行；逐行选择又会让损坏的行被当作另一种格式。",
        ),
        fix=(
            "Split the file by schema, or name the one to read: rows of the others are then counted as other_schema.",
            "按格式拆分文件，或指定要读取的格式：其余行计为 other_schema。",
        ),
        example="""DAT307 data/a.jsonl: the file mixes rows of different schemas
  got:      alpaca from row 1 on (60 of 100); openai from row 4 on (40 of 100)

data:
  train:
    - {path: data/alpaca.jsonl}
    - {path: data/openai.jsonl}""",
    ),
    "DAT308": _page(
        title=("no training example is left", "没有剩下任何训练样本"),
        what=(
            "Whether at least one row becomes a training example. The message lists how many rows were dropped for each reason, "
            "and the first of each.",
            "检查是否至少有一行成为训练样本。报错会列出各原因丢弃的行数及首行。",
        ),
        why=(
            "Peers end here with an error that does not name the cause (TRL 1.16: num_samples should be a positive integer value, "
            "but got num_samples=0).",
            "其他工具在此会给出与原因无关的报错（TRL 1.16：num_samples should be a positive integer value, but got num_samples=0）。",
        ),
        fix=(
            "Look at the first row of the commonest reason with gogpt show FILE:ROW; overlong means that data.max_length is too small.",
            "用 gogpt show FILE:ROW 查看最常见原因的首行；overlong 表示 data.max_length 过小。",
        ),
        example="""DAT308: no training example is left
  got:      200 rows, dropped: 200 overlong (first: data/a.jsonl:1)
  fix:      see the first row of each reason with gogpt show FILE:ROW

data:
  max_length: 4096""",
    ),
    "DAT309": _page(
        title=("no such row", "没有这一行"),
        what=(
            "Whether FILE:ROW names a row of the file that can be used. The first row is 1; blank lines do not count.",
            "检查 FILE:ROW 是否是文件中可用的一行。首行是 1，空行不计。",
        ),
        why=("Showing another row instead would mislead.", "若显示别的行，会造成误导。"),
        fix=("Give a row between 1 and the number of rows that the message names. A row that exists and cannot be used is named with its reason.", "给出 1 到报错所示行数之间的行号。存在但不可用的行会给出原因。"),
        example="""DAT309 data/a.jsonl:2001: there is no such row
  got:      row 2001
  expected: 1 to 2000
  fix:      the first row is 1

gogpt show data/a.jsonl:2000""",
    ),
    "DAT313": _page(
        title=("a prepared set that cannot be read", "无法读取已准备好的数据集"),
        what=(
            "Whether the folder of a prepared set holds all that its set.json names, undamaged, and whether ten of its conversations, encoded again, give the "
            "ids and labels that lie there.",
            "检查已准备好的数据集目录是否完整无损地包含 set.json 所列的内容，并把其中十条对话重新编码，核对 id 与标签是否与存储的一致。",
        ),
        why=(
            "A set is written whole or not at all; files that are missing or damaged later must not be trained on. A cache of another tokenizer trains "
            "tokens that the model does not mean (axolotl-ai-cloud/axolotl#1265: a loss of 10 instead of 4).",
            "数据集要么完整写入，要么不写；事后缺失或损坏的文件不能用于训练。用了另一个分词器的缓存，训练的就是模型不认识的 token"
            "（axolotl-ai-cloud/axolotl#1265：损失为 10 而不是 4）。",
        ),
        fix=("Remove the folder; the set is made again.", "删除该目录；数据集会重新生成。"),
        example="""DAT313 runs/prepared/3f1c0a9be24d7785a1c2: the prepared set cannot be read: Invalid flatbuffers message.
  fix:      remove the folder: it is made again

rm -r runs/prepared/3f1c0a9be24d7785a1c2""",
    ),
    "TOK409": _page(
        title=("a conversation is too long", "对话过长"),
        what=(
            "With data.overlong: error, whether every conversation fits data.max_length. The first that does not stops the run.",
            "当 data.overlong: error 时，检查每个对话是否都在 data.max_length 之内。遇到第一个过长的就停止。",
        ),
        why=(
            "This policy is for data in which no row may be lost or cut; the other policies count what they do.",
            "该策略用于不允许丢失或截断任何一行的数据；其他策略会对所做的处理计数。",
        ),
        fix=(
            "Raise data.max_length, shorten the row, or choose data.overlong: drop | truncate | split.",
            "提高 data.max_length，缩短该行，或选择 data.overlong: drop | truncate | split。",
        ),
        example="""TOK409 data/a.jsonl:118: the conversation is too long: 2741 tokens, max_length is 2048
  fix:      raise data.max_length, or set data.overlong: drop | truncate | split

data:
  max_length: 4096""",
    ),
    "TOK410": _page(
        title=("the tokenizer cannot be read", "无法读取分词器"),
        what=(
            "Whether the model folder holds a tokenizer that can be read: tokenizer.json, a SentencePiece model (tokenizer.model, "
            "spiece.model), tekken.json, a .tiktoken file, or GPT-2's vocab.json and merges.txt; and valid JSON in the files beside it.",
            "检查模型目录中是否有可读取的分词器：tokenizer.json、SentencePiece 模型（tokenizer.model、spiece.model）、tekken.json、.tiktoken 文件，"
            "或 GPT-2 的 vocab.json 与 merges.txt；且相关文件是有效的 JSON。",
        ),
        why=(
            "Token ids must be the ones that the base model was trained with. Another tokenizer in its place gives a run that "
            "looks normal and a model that is useless. So a file that does not say how text is split (vocab.json without its class, a "
            ".tiktoken file of unknown name) is not guessed at.",
            "token id 必须与基座模型训练时一致。换成别的分词器，训练看似正常，模型却毫无用处。因此，没有说明如何切分文本的文件"
            "（没有类名的 vocab.json、名称未知的 .tiktoken 文件）不会被猜测使用。",
        ),
        fix=(
            "Download the model's tokenizer files again. For a .tiktoken file of another name, write its pattern as \"pat_str\" into "
            "tokenizer_config.json.",
            "重新下载模型的分词器文件。若 .tiktoken 文件的名称未知，请在 tokenizer_config.json 中用 \"pat_str\" 写明其切分正则。",
        ),
        example="""TOK410 models/base: no tokenizer in the model folder
  got:      config.json, model.safetensors
  expected: tokenizer.json, a SentencePiece tokenizer.model, tekken.json or a .tiktoken file""",
    ),
    "TOK420": _page(
        title=("unknown template", "未知的模板"),
        what=(
            "Whether data.template is auto, the name of a declared template, or a .jinja file that can be read.",
            "检查 data.template 是否为 auto、已声明的模板名，或可读取的 .jinja 文件。",
        ),
        why=(
            "Training in another form than the one meant is not seen in the loss; it shows as poor answers after training.",
            "用了不同的模板，损失上看不出来，只会表现为训练后的回答变差。",
        ),
        fix=("gogpt template list prints the names.", "gogpt template list 会列出所有模板名。"),
        example="""TOK420: no template is named 'chat-ml'
  expected: auto, a .jinja file, or a name of gogpt template list (with its variants: NAME/VARIANT)
  fix:      did you mean 'chatml'?

data:
  template: chatml""",
    ),
    "TOK421": _page(
        title=("the template is not valid Jinja", "模板不是有效的 Jinja"),
        what=(
            "Whether the chat template compiles in the environment that transformers uses.",
            "检查聊天模板能否在 transformers 所用的环境中编译。",
        ),
        why=(
            "A template that does not compile here does not compile where the model is served either.",
            "在这里不能编译的模板，部署时同样不能编译。",
        ),
        fix=(
            "Correct the line that the message names, or use a declared template (gogpt template list).",
            "修正报错所指的行，或使用已声明的模板（gogpt template list）。",
        ),
        example="""TOK421 chat template line 4: the chat template is not valid Jinja: unexpected '}'
  fix:      correct the template, or name a declared one

data:
  template: chatml""",
    ),
    "TOK422": _page(
        title=("the tokenizer has no chat template", "分词器没有聊天模板"),
        what=(
            "With data.template: auto, whether the model folder has a chat template (chat_template.jinja, or a key of "
            "tokenizer_config.json).",
            "当 data.template: auto 时，检查模型目录中是否有聊天模板（chat_template.jinja 或 tokenizer_config.json 中的键）。",
        ),
        why=(
            "Base models have none. A default chosen in silence would train one form and serve another "
            "(hiyouga/LLaMA-Factory#2509: 26% instead of 57%).",
            "基座模型没有聊天模板。若悄悄选一个默认值，训练与部署的格式会不一致（hiyouga/LLaMA-Factory#2509：26% 而非 57%）。",
        ),
        fix=(
            "Name a template. For a base model, alpaca ends with the tokenizer's own EOS and needs no new token. The exported model "
            "carries its chat template.",
            "指定一个模板。对基座模型，alpaca 以分词器自身的 EOS 结束，不需要新 token。导出的模型会带上其聊天模板。",
        ),
        example="""TOK422 models/base: the tokenizer has no chat template of its own
  got:      template: auto
  expected: a template by name, or a .jinja file

data:
  template: alpaca""",
    ),
    "TOK423": _page(
        title=("the template cannot render this conversation", "模板无法渲染该对话"),
        what=(
            "Whether a conversation that was given by itself (template render, show, generate, chat) has a form in the template: the "
            "order of its turns, its roles, its tools. In training data such rows are dropped and counted instead.",
            "检查单独给出的对话（template render、show、generate、chat）能否用该模板表示：轮次顺序、角色、工具。"
            "训练数据中这样的行则会被丢弃并计数。",
        ),
        why=(
            "Rendering it in some other way would send the model a prompt of a kind that it was not trained on.",
            "若换一种方式渲染，就会向模型发送它没有训练过的提示形式。",
        ),
        fix=(
            "Put the turns in the order that the template wants (mostly system, then user and assistant in turn), or choose a "
            "template that has a form for tools.",
            "按模板要求排列轮次（通常为 system，然后 user 与 assistant 交替），或选用支持工具的模板。",
        ),
        example="""TOK423 talk.json:1: the template cannot render this conversation: llama2 wants user and assistant in turn; message 2 is user
  got:      template llama2
  fix:      pick a template with that form, or change the conversation

{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}""",
    ),
    "TOK424": _page(
        title=("the saved tokenizer encodes otherwise", "保存的分词器编码结果不同"),
        what=(
            "Fixed texts and texts of the run are encoded once more by the saved tokenizer as transformers loads it; the ids must be those that "
            "were trained. Several forms are tried (the model's own class, the file as it is, a SentencePiece model converted with its merges by "
            "score, sentencepiece itself), and the first that gives the same ids is saved.",
            "用 transformers 加载保存的分词器，重新编码固定文本和训练中的文本，得到的 id 必须与训练时一致。会依次尝试多种形式（模型自己的类、"
            "原样使用文件、按分数转换的 SentencePiece 模型、sentencepiece 本身），保存第一个 id 相同的形式。",
        ),
        why=(
            "transformers may put a normalizer or a pre-tokenizer of its own in place of what tokenizer.json says (measured: Llama 2, "
            "SmolLM2), and orders merges by id when it reads a SentencePiece model alone. A model that is served with other ids than it was "
            "trained on answers worse, without an error (hiyouga/LLaMA-Factory#2509, #5845; ollama/ollama#8363).",
            "transformers 可能用自己的规范化或预分词替换 tokenizer.json 的设置（实测：Llama 2、SmolLM2）；只有 SentencePiece 模型时，它按 id 排列合并规则。"
            "部署时的 id 与训练时不同，回答会变差且没有报错（hiyouga/LLaMA-Factory#2509、#5845；ollama/ollama#8363）。",
        ),
        fix=(
            "Serve the model with software that reads the tokenizer's own file (tokenizers, sentencepiece, tiktoken), as gogpt chat does, and report "
            "the tokenizer to GoGPT with the text of the message.",
            "用直接读取分词器原文件的软件（tokenizers、sentencepiece、tiktoken）部署，如 gogpt chat，并把该分词器和报错中的文本报告给 GoGPT。",
        ),
        example="""TOK424 models/base: transformers encodes a text otherwise than it was trained
  got:      LlamaTokenizer: ' Hello': from token 1 on [29871, 15043] against [15043] (normalizer, pre_tokenizer)
  fix:      serve with the tokenizer's own library; gogpt chat does""",
    ),
    "TOK425": _page(
        title=("no EOS to part documents with", "没有用来分隔文档的 EOS"),
        what=(
            "Whether the tokenizer names an EOS token that is in its vocabulary. In stage pretrain it ends every document.",
            "检查分词器是否指定了词表中存在的 EOS token。在 pretrain 阶段，它标记每篇文档的结束。",
        ),
        why=(
            "Without it documents run into each other, and the model never learns that a text ends.",
            "没有它，文档会连成一片，模型也学不会文本在何处结束。",
        ),
        fix=(
            "Name the token that ends a text as eos_token in tokenizer_config.json.",
            "在 tokenizer_config.json 中用 eos_token 指定结束文本的 token。",
        ),
        example="""TOK425 models/base: the tokenizer has no EOS to part documents with
  got:      eos_token: None
  expected: eos_token in tokenizer_config.json, a token of the vocabulary
  fix:      name the token that ends a text there

{"eos_token": "<|endoftext|>"}""",
    ),
    "TOK430": _page(
        title=("the corpus holds no text", "语料中没有文本"),
        what=(
            "Whether the data for a vocabulary (CORPUS, --corpus) hold any document or message with text.",
            "检查用于词表的数据（CORPUS、--corpus）是否含有带文本的文档或消息。",
        ),
        why=(
            "A vocabulary trained on nothing is 256 bytes. The rows that were dropped, and why, are counted in the message.",
            "在空语料上训练出的词表只有 256 个字节。报错中列出了被丢弃的行及原因。",
        ),
        fix=(
            "See what is in the files with gogpt data inspect; name a --schema where it was not found.",
            "用 gogpt data inspect 查看文件内容；若模式未识别，请用 --schema 指定。",
        ),
        example="""TOK430 prompts.jsonl: the corpus holds no text
  got:      120 no_answer
  fix:      give files with documents or conversations; gogpt data inspect shows what is in them

gogpt data inspect prompts.jsonl""",
    ),
    "TOK431": _page(
        title=("a vocabulary of this size cannot be trained", "无法训练该大小的词表"),
        what=(
            "Whether the corpus gives a vocabulary of --size tokens: at least the 256 bytes, the special tokens and (SentencePiece) the characters, at most as many tokens as the text has pairs to merge.",
            "检查语料能否给出 --size 个 token：至少包括 256 个字节、特殊 token 以及（SentencePiece 的）字符，至多为文本中可合并的数量。",
        ),
        why=(
            "A vocabulary larger than its text has tokens that were seen once or never; libraries stop with an internal error, or give fewer tokens and say nothing.",
            "词表大于文本所能支持时，许多 token 只出现一次或从未出现；各库要么以内部错误中止，要么悄悄给出更少的 token。",
        ),
        fix=(
            "Take the size that the message names, or give more text. With many rare characters, a lower --coverage writes them as bytes.",
            "使用报错给出的大小，或提供更多文本。罕见字符很多时，降低 --coverage 可将其写为字节。",
        ),
        example="""TOK431: the corpus does not give so many tokens
  got:      --size 32000
  expected: at most 7412 from this corpus
  fix:      --size 7412, or more text

gogpt tokenizer train corpus/ -o zh-8k --size 7400""",
    ),
    "TOK432": _page(
        title=("the vocabularies cannot be merged", "两个词表无法合并"),
        what=(
            "Whether base and new vocabulary are of one kind: SentencePiece BPE with SentencePiece BPE, or byte-level BPE with byte-level BPE. Unigram, WordPiece and files of ranks (Tekken, tiktoken) cannot be extended.",
            "检查基座与新词表是否同类：SentencePiece BPE 对 SentencePiece BPE，或字节级 BPE 对字节级 BPE。Unigram、WordPiece 和排名文件（Tekken、tiktoken）不能扩展。",
        ),
        why=(
            "The kinds spell their tokens differently: a byte-level token put into a SentencePiece model is never found in any text, and its row is dead. In Unigram every new piece changes how all text is cut.",
            "各类词表的 token 写法不同：放入 SentencePiece 模型的字节级 token 在任何文本中都不会出现，其行永远无用。在 Unigram 中，每个新片段都会改变所有文本的切分。",
        ),
        fix=(
            "Train the new vocabulary with the base's kind (the message names it), or leave --with out and give a --corpus: the kind is then the base's.",
            "按基座的种类训练新词表（报错中已给出），或去掉 --with 而给出 --corpus，此时种类与基座相同。",
        ),
        example="""TOK432 zh-8k/tokenizer.json: the new vocabulary is of another kind than the base
  got:      byte-level BPE
  expected: SentencePiece BPE
  fix:      gogpt tokenizer train CORPUS -o NEW --kind sentencepiece

gogpt tokenizer extend models/llama --with zh-spm-8k -o models/llama-zh""",
    ),
    "TOK433": _page(
        title=("the new vocabulary adds nothing", "新词表没有新增内容"),
        what=(
            "Whether the new vocabulary has a token that the base has not, and that the base's own merges let come about.",
            "检查新词表是否含有基座没有、且基座自身的合并允许出现的 token。",
        ),
        why=(
            "The model would be written again, larger by nothing, and a run on it would train no row.",
            "否则只是把模型原样再写一遍，之后的训练也没有新行可训练。",
        ),
        fix=(
            "Train the vocabulary on text in the language that the base cuts into many pieces; the table that gogpt tokenizer train prints shows characters per token.",
            "用基座切得很碎的语言的文本训练词表；gogpt tokenizer train 打印的表格给出每个 token 的字符数。",
        ),
        example="""TOK433 base/tokenizer.json: the new vocabulary adds nothing to the base
  got:      48900 tokens that the base has
  fix:      train it on text that the base cuts into many pieces

gogpt tokenizer train chinese/ -o zh-8k""",
    ),
    "TOK434": _page(
        title=("the tokenizer written is not the one that was made", "写出的分词器与所制作的不一致"),
        what=(
            "Whether the folder, read back, has every id of the base with its token, every new token at its id, the same ids for the fixed probes and the corpus's texts, and the base's ids for text without a new token.",
            "检查重新读取的目录是否保留基座的每个 id 与 token、每个新 token 的 id、固定探测文本与语料文本的 id，以及不含新 token 的文本仍为基座的 id。",
        ),
        why=(
            "Rows belong to ids. A tokenizer whose ids have moved gives every token another token's row, and nothing in the run says so.",
            "嵌入的行对应 id。若 id 发生移动，每个 token 都会用到别的 token 的行，而训练中没有任何提示。",
        ),
        fix=(
            "This is a mistake of GoGPT's: nothing was written. Please report it with the base and the new vocabulary.",
            "这是 GoGPT 的错误：没有写出任何文件。请连同基座与新词表一起报告。",
        ),
        example="""TOK434 models/base: the extended tokenizer is not what it should be
  got:      id 32000 was '<pad>' and is '一个'
  expected: every id of the base as it was, and text without a new token encoded as before
  fix:      please report this with the two tokenizers

gogpt explain TOK434""",
    ),
    "MOD500": _page(
        title=("the model cannot be loaded", "无法加载模型"),
        what=(
            "Whether model.path is a folder with a config.json and whole weight files, or a hub id that can be reached.",
            "检查 model.path 是否为含有 config.json 和完整权重文件的目录，或可访问的 hub id。",
        ),
        why=(
            "A weight file that was cut short or a missing shard must be found before data is prepared, not after.",
            "被截断的权重文件或缺失的分片，应在准备数据之前而不是之后发现。",
        ),
        fix=(
            "Paths in a recipe are relative to the recipe. Download missing or broken files again; an adapter folder has to be merged "
            "first; gated models need hf auth login.",
            "配方中的路径相对于配方文件。重新下载缺失或损坏的文件；适配器目录需先合并；受限模型需要 hf auth login。",
        ),
        example="""MOD500 models/bse: there is no such model folder
  fix:      did you mean base?

model: models/base""",
    ),
    "MOD506": _page(
        title=("weights are missing or unexpected", "权重缺失或多余"),
        what=(
            "Whether the checkpoint's tensors are exactly those of the model that its config.json describes.",
            "检查检查点中的张量是否与 config.json 所描述的模型完全一致。",
        ),
        why=(
            "transformers fills missing weights with random numbers and only warns; tensors under other names are left out. The run "
            "then starts from a partly random model (huggingface/transformers prints 'newly initialized').",
            "transformers 会用随机数填充缺失的权重，只给一个警告；名称不符的张量会被忽略。训练便从部分随机的模型开始"
            "（huggingface/transformers 会打印 newly initialized）。",
        ),
        fix=(
            "Take config.json and weights from the same revision. Adapters and models wrapped by another trainer have to be merged or "
            "saved again first.",
            "config.json 与权重应取自同一版本。适配器或被其他训练器包装过的模型需先合并或重新保存。",
        ),
        example="""MOD506 models/base: 2 weights of the model are not in the checkpoint
  got:      model.layers.29.mlp.up_proj.weight, model.norm.weight
  expected: every weight of the architecture in config.json (a missing one would be random)
  fix:      download the checkpoint again, or use the config.json that belongs to it""",
    ),
    "MOD542": _page(
        title=("the 4-bit base is not the base", "4-bit 基座与原基座不符"),
        what=(
            "After a base was loaded in 4 bits: whether exactly the planned modules are, and whether those of the first and the last layer "
            "compute with the weights on the disk: each within 0.22 of the scale of its block of 64 (half the widest gap of nf4 is 0.14, of fp4 0.17).",
            "以 4-bit 加载基座后，检查被量化的模块是否正是计划中的模块，以及首末两层模块实际使用的权重与磁盘上的是否一致：误差不超过所在 64 个一块的缩放系数的 0.22（nf4 最大间隔的一半为 0.14，fp4 为 0.17）。",
        ),
        why=(
            "Which kernel quantises and multiplies depends on the release, the processor and the shape. bitsandbytes 0.50.2 with AVX-512 gives "
            "wrong weights for rows that are no multiple of 64, and says nothing; an architecture that joins its experts into one tensor "
            "when it is loaded is not quantised at all, and takes four times the planned memory.",
            "用哪个内核做量化和乘法取决于版本、处理器和形状。bitsandbytes 0.50.2 在 AVX-512 上会对行长不是 64 倍数的矩阵给出错误的权重，且没有提示；"
            "加载时把专家合并成一个张量的架构根本不会被量化，内存是计划的四倍。",
        ),
        fix=(
            "Take another release of bitsandbytes, or method.kind: lora. The finding names the module and its error.",
            "换用其他版本的 bitsandbytes，或使用 method.kind: lora。报错会给出模块和误差。",
        ),
        example="""MOD542 models/base: the 4-bit weights of model.layers.0.self_attn.q_proj do not stand for those of the base
  got:      off by up to 0.61 of their block's scale
  expected: at most 0.22
  fix:      another release of bitsandbytes, or method.kind: lora

method: lora""",
    ),
    "MOD508": _page(
        title=("the embeddings cannot be resized", "无法调整嵌入的大小"),
        what=(
            "Whether the matrices with a row for each token can be found in the safetensors files by their usual names, are float numbers, and have a row for every id of the base's tokenizer.",
            "检查能否在 safetensors 文件中按常用名称找到每个 token 一行的矩阵，其数值为浮点数，且基座分词器的每个 id 都有对应的行。",
        ),
        why=(
            "A matrix that is missed keeps its old size, and the model fails on the first new token, or reads another row. Quantised rows cannot be averaged.",
            "漏掉的矩阵保持原来的大小，模型遇到第一个新 token 就会失败或读到别的行。量化后的行不能求平均。",
        ),
        fix=(
            "Give the base with float weights in safetensors files. To extend the tokenizer alone, give a folder with the tokenizer's files and no weights.",
            "使用 safetensors 文件中浮点权重的基座。若只扩展分词器，请给出只含分词器文件、不含权重的目录。",
        ),
        example="""MOD508 models/base-gptq: the embeddings are no plain numbers
  got:      model.embed_tokens.weight is I32
  expected: float weights in safetensors files, one embedding matrix
  fix:      give the base in Hugging Face format with safetensors weights, not quantised; or extend its tokenizer alone

gogpt tokenizer extend models/base --with zh-8k -o models/base-zh""",
    ),
    "RUN610": _page(
        title=("the run folder exists already", "训练目录已存在"),
        what=("Whether the folder that a run or a merge is to write is free.", "检查训练或合并要写入的目录是否可用。"),
        why=(
            "Writing over a run would mix its metrics and checkpoints with new ones, or destroy them.",
            "覆盖写入会使新旧训练的指标和检查点混在一起，或毁掉旧的。",
        ),
        fix=(
            "Set another output, go on with gogpt train --resume RUN, or start over with --overwrite.",
            "换一个 output，用 gogpt train --resume RUN 继续，或用 --overwrite 重新开始。",
        ),
        example="""RUN610 runs/a: the run folder exists already
  got:      a run with a checkpoint at step 300
  fix:      gogpt train --resume runs/a, or output=another, or --overwrite

gogpt train recipe.yaml output=runs/b""",
    ),
    "RUN611": _page(
        title=("there is nothing to resume from", "没有可续训的检查点"),
        what=(
            "Whether the folder that was given is a run folder (recipe.yaml, plan.json) and holds what the command needs: a whole checkpoint for --resume, a final model for generate and chat.",
            "检查所给目录是否为训练目录（含 recipe.yaml、plan.json），且有命令所需的内容：--resume 需要完整的检查点，generate 和 chat 需要最终模型。",
        ),
        why=(
            "Starting again from step 1 under the name of a resumed run would hide that the earlier work is lost "
            "(modelscope/ms-swift#10050: the flag was ignored).",
            "以续训之名从第 1 步重新开始，会掩盖之前的训练已丢失的事实（modelscope/ms-swift#10050：续训参数被忽略）。",
        ),
        fix=(
            "Give the folder of the run, not of a checkpoint in it; or start anew. train.save_every decides how often a checkpoint is written.",
            "给出训练目录，而不是其中的检查点目录；或重新开始。train.save_every 决定保存检查点的频率。",
        ),
        example="""RUN611 runs/a/checkpoints: there is no whole checkpoint to go on from
  fix:      start again: gogpt train RECIPE --overwrite

train:
  save_every: 100""",
    ),
    "RUN612": _page(
        title=("the resumed run differs from the one that was started", "续训与原训练不一致"),
        what=(
            "Whether recipe, data, tokenizer and plan of a resumed run are those that it was started with. A fingerprint in plan.json tells.",
            "检查续训时的配方、数据、分词器和计划是否与原训练一致，由 plan.json 中的指纹判断。",
        ),
        why=(
            "With another batch size, data or schedule, the saved place in the data and in the learning rate means something else: rows "
            "repeat, or the learning rate jumps (huggingface/transformers#23099, huggingface/accelerate#2016).",
            "批大小、数据或学习率计划变了，保存的数据位置和学习率进度就有了不同的含义：数据会重复，或学习率突变"
            "（huggingface/transformers#23099、huggingface/accelerate#2016）。",
        ),
        fix=(
            "Resume without a recipe (gogpt train --resume RUN) and bring data and tokenizer back as they were. To change something, start a new run.",
            "续训时不带配方（gogpt train --resume RUN），并把数据和分词器恢复原样。若要修改，请开始新的训练。",
        ),
        example="""RUN612 runs/a: the recipe is not the one that this run was started with
  fix:      gogpt train --resume runs/a, without a recipe; or start a new run

gogpt train --resume runs/a""",
    ),
    "RUN613": _page(
        title=("a checkpoint of other processes", "检查点来自不同的进程数"),
        what=(
            "Whether a DeepSpeed checkpoint that is gone on from was written by as many processes as read it now.",
            "检查要继续的 DeepSpeed 检查点，是否由同样数量的进程写成。",
        ),
        why=(
            "ZeRO writes each process's part of the optimizer. Another number of processes cannot read the parts, and DeepSpeed says so only after the model is "
            "loaded, or starts the optimizer anew.",
            "ZeRO 按进程分别写出优化器的分片。进程数不同就读不了，而 DeepSpeed 要到加载模型之后才报错，或让优化器从头开始。",
        ),
        fix=(
            "Go on with as many processes as the message names. Runs under ddp and fsdp go on on any number.",
            "用报错信息所列的进程数继续。ddp 与 fsdp 的训练可在任意进程数上继续。",
        ),
        example="""RUN613 runs/a/checkpoints/step-300: the checkpoint is of 8 processes
  got:      2 processes
  expected: 8, whose parts of the optimizer lie in it
  fix:      gogpt train --resume runs/a parallel.processes=8""",
    ),
    "RUN614": _page(
        title=("there is nothing to evaluate on", "没有可用于评估的数据"),
        what=(
            "Whether gogpt evaluate has examples with trained tokens: those of --data, or the evaluation set of the run.",
            "检查 gogpt evaluate 是否有含被训练 token 的样本：来自 --data，或该训练的评估集。",
        ),
        why=(
            "A model brings no data, and a run with data.eval: 0 held nothing out. A loss on what was trained would say how well it was learned by heart.",
            "模型本身不带数据；data.eval: 0 的训练没有留出任何数据。在训练数据上的损失只能说明背得有多熟。",
        ),
        fix=(
            "Name a file of conversations that were not trained on.",
            "指定一个未参与训练的对话文件。",
        ),
        example="""RUN614 runs/a: there is nothing to evaluate on
  got:      a run whose data.eval holds nothing out
  expected: examples with trained tokens
  fix:      name a file of held-out conversations: gogpt evaluate runs/a --data FILE

gogpt evaluate runs/a --data held_out.jsonl""",
    ),
    "RUN615": _page(
        title=("what a run left behind cannot be read", "无法读取训练留下的文件"),
        what=(
            "Whether the files that gogpt check was given as a run (trainer_state.json, event files, logs, run folders) can be read.",
            "检查作为训练结果交给 gogpt check 的文件（trainer_state.json、事件文件、日志、训练目录）能否读取。",
        ),
        why=(
            "A verdict on half of a history could be wrong. A record that is cut off at the end of a file (a run that was killed) is no error: it is counted and told.",
            "只凭半份记录下的结论可能是错的。文件末尾被截断的记录（训练被杀掉）不算错误：会被计数并告知。",
        ),
        fix=(
            "Give the folder as the trainer wrote it, or one of its files: trainer_state.json, an events.out.tfevents file, a log.",
            "给出训练器写下的目录，或其中的文件：trainer_state.json、events.out.tfevents 文件、日志。",
        ),
        example="""RUN615 out/trainer_state.json: what the run left cannot be read: no log_history
  fix:      give a run folder, a checkpoint, an event file or a log as the trainer wrote it

gogpt check out/checkpoint-300""",
    ),
    "RUN620": _page(
        title=("out of memory", "内存不足"),
        what=(
            "Whether a step fits the memory of the device. gogpt plan estimates it from shapes beforehand: weights, gradients, optimizer "
            "and activations.",
            "检查一步训练能否放入设备内存。gogpt plan 会事先根据形状估算：权重、梯度、优化器和激活。",
        ),
        why=(
            "The longest rows need the most memory, so that it may run out late. The run stops with its last checkpoint whole.",
            "最长的行占用内存最多，因此可能训练到后面才耗尽。训练会停止，最近的检查点保持完整。",
        ),
        fix=(
            "In this order: a smaller train.micro_batch_size (batch_size stays, accumulation grows, and the result is the same), "
            "train.gradient_checkpointing: true, a smaller data.max_length, method lora instead of full.",
            "依次尝试：减小 train.micro_batch_size（batch_size 不变，累积步数增加，结果相同）、train.gradient_checkpointing: true、"
            "减小 data.max_length、用 lora 代替 full。",
        ),
        example="""RUN620 step 12: out of memory
  got:      CUDA out of memory. Tried to allocate 2.50 GiB.
  fix:      halve train.micro_batch_size (the same batch_size gives the same gradient), lower data.max_length, set train.gradient_checkpointing: true, or use method.kind: lora

train:
  micro_batch_size: 4
  gradient_checkpointing: true""",
    ),
    "RUN630": _page(
        title=("a process of the run died", "训练的某个进程死亡"),
        what=(
            "How the processes of a run ended. The first that failed is told, in its own words; one that was killed from outside is told by its signal.",
            "检查各进程如何结束。最先失败的进程会用它自己的话说明；被外部杀死的进程则给出信号名。",
        ),
        why=(
            "When one process dies the others wait in a collective, and after minutes the log is full of their timeouts, with the cause far above them "
            "(Some NCCL operations have failed or timed out). GoGPT ends the others within seconds and puts the first error on top.",
            "一个进程死亡后，其他进程会卡在集合通信里，几分钟后日志里满是它们的超时，真正的原因远在上方（Some NCCL operations have failed or timed out）。"
            "GoGPT 会在几秒内结束其他进程，并把最早的错误放在最前面。",
        ),
        fix=(
            "SIGKILL is, as a rule, the system's answer to memory that ran out: dmesg says so. Anything else: gogpt doctor. The run goes on from its last "
            "checkpoint with gogpt train --resume RUN.",
            "SIGKILL 一般是系统内存耗尽所致，可用 dmesg 确认。其他情况用 gogpt doctor 检查。之后可用 gogpt train --resume RUN 从最近的检查点继续。",
        ),
        example="""RUN630 rank 1: process 1 was ended by SIGKILL; the others were stopped
  got:      exit by signal 9
  expected: a process that ends by itself
  fix:      as a rule the machine ran out of memory (dmesg says so): lower train.micro_batch_size or data.max_length, or shard with engine: fsdp; go on with gogpt train --resume RUN""",
    ),
    "EXP703": _page(
        title=("there is nothing to merge", "没有可合并的内容"),
        what=(
            "Whether the run or folder given to gogpt merge holds an adapter (adapter_config.json and adapter_model.safetensors).",
            "检查交给 gogpt merge 的训练或目录中是否有适配器（adapter_config.json 和 adapter_model.safetensors）。",
        ),
        why=(
            "A run with method full or freeze saves a whole model; merging it again would copy it under the name of a proof that was not made.",
            "full 或 freeze 方法保存的就是完整模型；再“合并”只是复制一份，却像是做过验证。",
        ),
        fix=(
            "For a full run use final/ as it is. For a LoRA run give the run folder, or the folder with adapter_config.json.",
            "full 训练直接使用 final/。LoRA 训练请给出训练目录或含 adapter_config.json 的目录。",
        ),
        example="""EXP703 runs/a/final: there is no adapter to merge
  got:      a whole model
  fix:      use it as it is: gogpt chat runs/a""",
    ),
    "EXP704": _page(
        title=("adapter and base do not fit", "适配器与基座不匹配"),
        what=(
            "Whether every tensor of the adapter finds its module in the base, with the same shapes.",
            "检查适配器的每个张量能否在基座中找到形状一致的对应模块。",
        ),
        why=(
            "Keys that find no module are skipped by loaders with a warning at most, and the model behaves as its base "
            "(hiyouga/LLaMA-Factory#8134, #9346; unslothai/unsloth#2142).",
            "找不到模块的键最多被警告一次就跳过，模型表现与基座一样（hiyouga/LLaMA-Factory#8134、#9346；unslothai/unsloth#2142）。",
        ),
        fix=(
            "Merge into the base that the adapter was trained on: the run's recipe.yaml and adapter_config.json name it.",
            "合并到训练该适配器的基座：训练目录的 recipe.yaml 和 adapter_config.json 中有其名称。",
        ),
        example="""EXP704 runs/a/final: the adapter does not fit the base: size mismatch for q_proj.lora_A.default.weight
  fix:      name the base that it was trained on (--base)

gogpt merge runs/a -o models/merged --base models/base""",
    ),
    "EXP705": _page(
        title=("what was saved is not what was trained", "保存的内容不是训练的内容"),
        what=(
            "Whether a checkpoint, and the model at the end, hold at least as many elements as are trained, no empty tensor, and an adapter that is not all zero. "
            "It is looked at after every save.",
            "每次保存后检查：检查点和最终模型的元素数不少于被训练的参数，没有空张量，适配器不全为零。",
        ),
        why=(
            "Weights that are sharded over processes must be gathered before they are saved; where they are not, the file is there and empty, and nobody sees it "
            "before the model is used (huggingface/trl#4416; huggingface/peft#2450; deepspeedai/DeepSpeed#7900).",
            "分片在各进程上的权重必须先汇集再保存；否则文件存在却是空的，直到使用模型才会发现（huggingface/trl#4416；huggingface/peft#2450；deepspeedai/DeepSpeed#7900）。",
        ),
        fix=(
            "The checkpoint before it is whole. Go on from it; where it happens again, use another engine and please report it.",
            "之前的检查点是完整的，可从它继续；若再次发生，请换一种引擎并报告。",
        ),
        example="""EXP705 runs/a/checkpoints/checkpoint-300: what was saved is not what was trained
  got:      0 elements
  expected: 4,096 trained elements
  fix:      the checkpoint before it is whole; start again from it with another engine, and please report this""",
    ),
}
