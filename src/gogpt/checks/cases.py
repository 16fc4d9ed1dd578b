"""Healthy facts that the cases of the checks start from (``dataclasses.replace``). No check fires on them."""

from __future__ import annotations

from dataclasses import replace

from gogpt.facts import (
    DataFacts,
    DoctorFacts,
    EngineFacts,
    EnvFacts,
    ExportFacts,
    Facts,
    ModelFacts,
    PlanFacts,
    RunFacts,
    ServedFacts,
    StepStats,
    TokenizerFacts,
)

ENV = EnvFacts(
    python="3.11.9", platform="linux", device="cpu", num_devices=0, device_name="cpu", bf16=False,
    memory_total=32 * 2**30, disk_free=200 * 2**30, cpu_count=8, versions={"torch": "2.13.0", "transformers": "5.23.0"},
)

GPU = EnvFacts(
    python="3.11.9", platform="linux", device="cuda", num_devices=1, device_name="NVIDIA A100-SXM4-40GB", bf16=True,
    memory_total=40 * 2**30, disk_free=200 * 2**30, cpu_count=16, versions={"torch": "2.13.0", "transformers": "5.23.0"},
)

PLAN = PlanFacts(
    method="lora", epochs=3.0, steps=300, warmup_steps=9, schedule="cosine", learning_rate=2e-4, batch_size=16,
    micro_batch_size=4, accumulation=4, world_size=1, precision="fp32", max_length=2048, overlong="drop", packing=True,
    special_text="error", num_rows=1600,
)

DATA = DataFacts(
    rows_in=2000, conversations=2000, examples=1960, eval_examples=40, drops={}, first={},
    schemas={"data/a.jsonl": "openai"}, tokens=610_000, trained_tokens=254_000, longest=1873, template="auto",
    stop_ids=(2,), stop_texts=("<|im_end|>",), stop_is_token=True, bos_id=1, eos_id=2, pad_id=0, answers=2600,
    answers_stopped=2600, encoded=2000, collated_stops_in=64, collated_stops_out=64,
)

TOKENIZER = TokenizerFacts(file="tokenizer.json", library="tokenizers", size=49152)

MODEL = ModelFacts(
    path="models/base", model_type="llama", num_parameters=134_515_008, trainable_parameters=4_884_480,
    embedding_rows=49152, tokenizer_size=49152, max_position_embeddings=8192, num_layers=30, hidden_size=576,
    vocab_size=49152, targets={"q_proj": 30, "v_proj": 30},
    linear_modules=("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
)

STEP = StepStats(
    step=40, loss=1.8421, lr=1.9e-4, grad_norm=0.61, trained_tokens=3100, tokens=7400, update_norm=0.012, seconds=4.1,
    memory=3 * 2**30,
)

RUN = RunFacts(steps_planned=300, last=STEP, planned_lr=1.9e-4, peak_lr=2e-4)

EXPORT = ExportFacts(
    max_difference=2e-5, tolerance=1e-3, effect=3.7, reloaded_difference=2e-5, probe_tokens=192, base="models/base",
    adapter="runs/a/final",
)

SERVED = ServedFacts(
    path="models/mine", nearest="chatml", equal=8, probes=8, difference=None, refused=(), not_prefix=(), stop_text="<|im_end|>",
    stop_ids=(2,), generation_stops=(2,), bos_twice=False,
)

ENGINE = EngineFacts(
    path="ds.json", lines={"zero_optimization": 6, "scheduler": 20, "optimizer": 12, "train_batch_size": 2, "bf16": 4, "fp16": 5, "gradient_clipping": 10},
    bf16=True, zero_stage=2, clipping_set=True,
)

DOCTOR = DoctorFacts(
    variables={"CUDA_HOME": "/usr/local/cuda-12.4", "HF_HUB_OFFLINE": "0"}, cuda_home="/usr/local/cuda-12.4", cuda_home_nvcc=True,
    toolkits={"/usr/local/cuda-12.4": "12.4"},
    named={"CUDA_HOME": "/usr/local/cuda-12.4", "PATH": "/usr/local/cuda-12.4", "LD_LIBRARY_PATH": "/usr/local/cuda-12.4"},
    nvcc_max_gcc=13, compiler="/usr/bin/g++", gcc=12, ninja=True, torch="2.6.0+cu124", torch_cuda="12.4", driver="550.54.15",
    driver_cuda="12.4", gpus=("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB"), capabilities=(8.0, 8.0),
    versions={"torch": "2.6.0+cu124", "deepspeed": "0.16.4", "bitsandbytes": "0.45.3", "flash-attn": "2.7.4.post1", "cryptography": "44.0.2"},
    bitsandbytes_libraries=("cpu", "cuda121", "cuda124"), bitsandbytes_wanted="cuda124", interfaces=("eth0", "lo"), shm_total=16 * 2**30, disk="runs", disk_free=200 * 2**30, disk_needed=4 * 2**30, memory=40 * 2**30,
    memory_needed=21 * 2**30, hub_cache="/data/hf/hub", hub_cache_exists=True, searched="models/base", git_lfs=True,
)

HEALTHY = Facts(env=ENV, plan=PLAN, data=DATA, tokenizer=TOKENIZER, model=MODEL, run=RUN, export=EXPORT, served=SERVED, engine=replace(ENGINE, bf16=False), doctor=DOCTOR)
