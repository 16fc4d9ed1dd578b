"""Healthy facts that the cases of the checks start from (``dataclasses.replace``). No check fires on them."""

from __future__ import annotations

from dataclasses import replace

from gogpt.facts import (
    AccumulationProof,
    AdapterFacts,
    AskedFacts,
    DataFacts,
    DoctorFacts,
    EngineFacts,
    EnvFacts,
    ExportFacts,
    Facts,
    ForeignFacts,
    GradientProof,
    HistoryFacts,
    LossProof,
    ModelFacts,
    PackingProof,
    PlanFacts,
    ProofFacts,
    RunFacts,
    RunVitals,
    ServedFacts,
    StepStats,
    StopProof,
    TokenizerFacts,
    TrainedStopProof,
    UpdateProof,
    WeightsFacts,
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

VITALS = RunVitals(
    loss_start=3.02, loss_best=1.84, loss_noise=0.11, loss_limit=3.43, loss_now=1.86, loss_uniform=10.80, begin_steps=31, grad_early=0.94,
    grad_usual=0.61, grad_now=0.6, skips_of=20, rate_usual=1805.0, tokens_usual=7400.0, memory_blocks=(2**31, 2**31), memory_tokens=(7400.0, 7390.0),
    epoch_steps=100,
)

RUN = RunFacts(steps_planned=300, last=STEP, planned_lr=1.9e-4, peak_lr=2e-4, vitals=VITALS)

PAST = HistoryFacts(
    path="out", tool="Trainer", num_records=30, first_step=10, last_step=300, last_epoch=3.0, steps_planned=300, planned_from="max_steps",
    epochs_planned=3.0, finished=True, world_size=1, precision="bf16", accumulation=4, vocab_size=49152, num_losses=30, first_loss=2.31,
    first_loss_step=10, early_loss=2.2, late_loss=1.1, lowest_loss=1.08, loss_spread=0.8, num_rates=30, peak_lr=2e-4, last_lr=1e-6,
    num_grad_norms=30, num_evals=3, last_eval=1.3, lowest_eval=1.29, lowest_eval_step=200, evals_after_lowest=1, loss_at_lowest_eval=1.2,
    skipped_steps=2, steps_seen=300, checkpoint="out/checkpoint-300",
)

EXPORT = ExportFacts(
    max_difference=2e-5, tolerance=1e-3, effect=3.7, reloaded_difference=2e-5, probe_tokens=192, base="models/base",
    adapter="runs/a/final",
)

SERVED = ServedFacts(
    path="models/mine", nearest="chatml", equal=8, probes=8, difference=None, refused=(), not_prefix=(), stop_text="<|im_end|>",
    stop_ids=(2,), generation_stops=(2,), bos_twice=False,
)

ASKED = AskedFacts(path="runs/a/final", template="auto", samples=10, equal=10)

ENGINE = EngineFacts(
    path="ds.json", lines={"zero_optimization": 6, "scheduler": 20, "optimizer": 12, "train_batch_size": 2, "bf16": 4, "fp16": 5, "gradient_clipping": 10},
    bf16=True, zero_stage=2, clipping_set=True,
)

FOREIGN = ForeignFacts(
    path="lf.yaml", tool="llamafactory", release="LLaMA-Factory 0.9.5",
    places={"model_name_or_path": "lf.yaml:1", "template": "lf.yaml:4", "dataset": "lf.yaml:5", "cutoff_len": "lf.yaml:6", "packing": "lf.yaml:7",
            "learning_rate": "lf.yaml:9", "fp16": "lf.yaml:12", "resume_from_checkpoint": "lf.yaml:14", "save_only_model": "lf.yaml:15"},
    names={"max_length": "cutoff_len", "template": "template", "train": "dataset", "eval": "eval_dataset", "learning_rate": "learning_rate", "model": "model_name_or_path",
           "packing": "packing", "saved": "additional_target", "accumulation": "gradient_accumulation_steps", "ddp_timeout": "ddp_timeout",
           "save_only_model": "save_only_model", "resume": "resume_from_checkpoint", "quantised": "quantization_bit"},
    model="models/base", model_local=True, model_type="llama", model_dtype="bfloat16", template="llama3", template_fits=True, train=("data/a.jsonl",), max_length=2048,
    overlong="cuts_prompt", learning_rate=1e-4, schedule="cosine", micro_batch_size=1, accumulation=8, epochs=3.0, warmup_ratio=0.1, clipping=1.0, precision="bf16",
    method="lora", ddp_timeout=1800, data_bytes=40 * 2**20,
)

ADAPTER = AdapterFacts(
    path="runs/a/final", kind="LORA", rank=16, targets=("q_proj", "v_proj"), tensors=120, lora_b=60, base="models/base", base_found="models/base",
)

WEIGHTS = WeightsFacts(
    path="models/mine", model_type="llama", tensors=273, sampled=1_000_000, embedding_rows=49152, vocab_size=49152, tokenizer_size=49152, chat_template=True, tied=True,
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

ACCUMULATION = AccumulationProof(
    rows=4, trained_tokens=61, loss_expected=3.1, loss_together=3.1, loss_apart=3.1, gradient_difference=2e-6, tolerance=1e-3,
)

PACKING = PackingProof(documents=3, tokens=126, leak=0.0, alone=2e-6, tolerance=1e-3)

GRADIENTS = GradientProof(tensors=420, attached=True, loss_finite=True, zero=210)

UPDATE = UpdateProof(tensors=420, moved=210, update_norm=1.6, learning_rate=1e-3, loss_before=3.6, loss_after=3.4, effect=0.9)

INITIAL = LossProof(
    answers=6, tokens=132, vocab_size=49152, loss=3.65, alone=4.32, shuffled=9.01, entropy=2.55,
)

STOP = StopProof(answers=2, prompts_equal=2, difference="", stops_trained=2, last_token="", stopped=2, generation_stops=(2,))

TRAINED_STOP = TrainedStopProof(answers=2, sure=2, stopped=2, max_new_tokens=48, probability=0.97)

PROOFS = ProofFacts(
    tokens=130, precision="fp32", seconds={"accumulation": 2.1}, accumulation=ACCUMULATION, packing=PACKING, gradients=GRADIENTS,
    adapter=UPDATE, initial_loss=INITIAL, generation=STOP, trained_stop=TRAINED_STOP,
)

HEALTHY = Facts(env=ENV, plan=PLAN, data=DATA, tokenizer=TOKENIZER, model=MODEL, run=RUN, export=EXPORT, served=SERVED, asked=ASKED, engine=replace(ENGINE, bf16=False),
                foreign=FOREIGN, adapter=ADAPTER, weights=WEIGHTS, doctor=DOCTOR, proofs=PROOFS, history=PAST)
